"""An orchestrator without Keck's SDK: publishes a check and reads its verdict, with nats-py and msgspec alone.

python orchestrator.py nats://127.0.0.1:4222 candidate.py reference.py

On a server with roles: nats://orchestrator:PASSWORD@host:4222
"""

import asyncio
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import nats


async def main(url: str, candidate: str, reference: str) -> None:
    run, check_id = "orchestrator", uuid.uuid4().hex
    user = urlsplit(url).username
    # With roles each user hears answers in inboxes of its own.
    nc = await nats.connect(url, inbox_prefix=f"_INBOX_{user}" if user else "_INBOX")
    js = nc.jetstream()
    # A durable consumer of our own: verdicts that come while we are away are here when we are back.
    verdicts = await js.pull_subscribe(f"eval.done.{run}.>", durable=run, stream="EVALS")
    request = {
        "type": "check.requested",
        "check_id": check_id,
        "run": run,
        "candidate": candidate,
        "reference": reference,
        "submitted_at": time.time(),
        "deadline": time.time() + 600,
    }
    await js.publish(
        f"check.requested.bulk.{run}.{check_id}",
        msgspec.msgpack.encode(request),
        headers={"Nats-Msg-Id": f"{run}.{check_id}.0.check.requested"},  # repeating the call is safe
    )
    decided = False
    while not decided:
        for message in await verdicts.fetch(1, timeout=600):
            verdict = msgspec.msgpack.decode(message.data)
            print(verdict["check_id"], verdict["verdict"], verdict["message"])
            await message.ack()
            decided = decided or verdict["check_id"] == check_id
    await nc.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_text(), Path(sys.argv[3]).read_text()))
