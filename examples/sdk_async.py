"""The async SDK: several checks at once, verdicts as they come.

python sdk_async.py nats://127.0.0.1:4222        (or http://127.0.0.1:8000)
"""

import asyncio
import sys
from pathlib import Path

from keck import Client

HERE = Path(__file__).parent


async def main(url: str | None) -> None:
    reference = (HERE / "cpp_relu" / "reference.py").read_text()
    candidates = {
        "C++": (HERE / "cpp_relu" / "candidate.py").read_text(),
        "itself": reference.replace("class Model(", "class ModelNew("),
        "zeros": reference.replace("class Model(", "class ModelNew(").replace("relu(", "zeros_like("),
    }
    async with Client(url) as client, asyncio.TaskGroup() as group:

        async def judge(name: str, candidate: str) -> None:
            done = await client.check(candidate, reference, options={"device": "cpu"}, timeout_s=600)
            gain = f", {done.timing.speedup:.2f} times as fast" if done.timing else ""
            print(f"{name}: {done.verdict}{gain}; {done.message}")

        for name, candidate in candidates.items():
            group.create_task(judge(name, candidate))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
