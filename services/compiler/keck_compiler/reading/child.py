"""``python -m keck_compiler.reading.child FD``: the process that reads hostile texts, one after the other.

A text that takes more than its CPU seconds ends the process: the timer's signal is left to its default action, for
nothing else interrupts Python's parser. Whoever asked then knows which text it was.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import warnings

import msgspec

from keck_compiler.reading.texts import Answer, Question, answer

__all__ = ["HEADER", "main"]

HEADER = struct.Struct("<Id")
"""Before each question: its length, and the CPU seconds it may take. An answer has the length with 0.0."""
_questions = msgspec.msgpack.Decoder(Question)


def main() -> None:
    """Answer until the other end is closed."""
    warnings.simplefilter("ignore")  # of the texts' invalid escapes, say
    with socket.socket(fileno=int(sys.argv[1])) as sock, sock.makefile("rwb") as stream:
        while header := stream.read(HEADER.size):
            length, cpu_s = HEADER.unpack(header)
            question = _questions.decode(stream.read(length))
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            data = msgspec.msgpack.encode(_answer(question))
            signal.setitimer(signal.ITIMER_PROF, 0)
            stream.write(HEADER.pack(len(data), 0.0) + data)
            stream.flush()


def _answer(question: Question) -> Answer:
    try:
        return answer(question)
    except (RecursionError, MemoryError) as error:
        return Answer(unreadable=f"reading it ends in a {type(error).__name__}")
    except Exception as error:  # noqa: BLE001 - the loop boundary: whoever asked decides what our failure means
        return Answer(failed=f"{type(error).__name__}: {ascii(str(error))[:500]}")


if __name__ == "__main__":
    main()
