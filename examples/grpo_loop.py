"""A loop like GRPO's that trains nothing real: a policy of a few logits learns which answers Keck pays for.

keck up --devices cpu                    (in another terminal)
python grpo_loop.py http://127.0.0.1:8000 --steps 20 --group 16

Each step draws a group of answers for each task, has all of them judged at once through an adapter, and moves the logits by
the advantages. One task's reference is broken, so its samples are masked, and nothing is learnt from them.
"""

import argparse
import math
import random
from collections import Counter
from pathlib import Path

from keck.adapters import Scorer
from keck.adapters.settings import AdapterSettings

REFERENCE = """\
import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2


def get_inputs():
    return [torch.randn(64, 64)]


def get_init_inputs():
    return []
"""
BROKEN = REFERENCE.replace("torch.randn(64, 64)", "torch.randn(64, 64) + missing")
RIGHT = REFERENCE.replace("class Model(", "class ModelNew(")
ANSWERS = {
    "right": f"This doubles what is positive.\n```python\n{RIGHT}```",
    "wrong": f"```python\n{RIGHT.replace('* 2', '* 3')}```",
    "raises": f"```python\n{RIGHT.replace('torch.relu(x)', 'torch.rleu(x)')}```",
    "two blocks": f"Either\n```python\n{RIGHT}```\nor\n```python\n{RIGHT}# again\n```",
    "prose": "One would multiply by two.",
}
TASKS = {"doubled relu": REFERENCE, "broken": BROKEN}


def softmax(logits: dict[str, float]) -> dict[str, float]:
    total = sum(math.exp(value) for value in logits.values())
    return {name: math.exp(value) / total for name, value in logits.items()}


def advantages(rewards: list[float | None]) -> list[float]:
    """GRPO's, over the samples that count; a masked one has none and moves nobody's mean."""
    judged = [reward for reward in rewards if reward is not None]
    if not judged:
        return [0.0] * len(rewards)
    mean = sum(judged) / len(judged)
    spread = math.sqrt(sum((reward - mean) ** 2 for reward in judged) / len(judged)) or 1.0
    return [0.0 if reward is None else (reward - mean) / spread for reward in rewards]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", default="")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--group", type=int, default=16)
    given = parser.parse_args()
    scorer = Scorer(
        AdapterSettings.of(
            {"url": given.url, "run": Path(__file__).stem, "extract": "only", "device": "cpu", "timed_calls": 0,
             "correctness_sets": 2, "wrong": 0.1, "passed": 1.0}
        )
    )  # fmt: skip
    draw = random.Random(0)
    logits = dict.fromkeys(ANSWERS, 0.0)
    verdicts = Counter[str]()
    for step in range(given.steps):
        chances = softmax(logits)
        chosen = [
            (task, name)
            for task in TASKS
            for name in draw.choices(list(chances), list(chances.values()), k=given.group)
        ]
        scores = scorer.score_all_now(
            [ANSWERS[name] for _, name in chosen], [TASKS[task] for task, _ in chosen]
        )
        for task in TASKS:
            group = [(name, score) for (of, name), score in zip(chosen, scores, strict=True) if of == task]
            moved = advantages([score.reward for _, score in group])
            for (name, _), advantage in zip(group, moved, strict=True):
                logits[name] += 0.5 * advantage / given.group
        verdicts.update(str(score.facts["verdict"]) for score in scores)
        masked = sum(score.is_masked for score in scores)
        paid = [score.reward for score in scores if score.reward is not None]
        print(
            f"step {step}: {len(scores)} samples, {masked} masked, mean reward {sum(paid) / max(1, len(paid)):.2f}, "
            f"chance of the right answer {softmax(logits)['right']:.2f}",
            flush=True,
        )
    print("verdicts:", ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()))


if __name__ == "__main__":
    main()
