"""The runner's loop: one command, one reply, until the judge hangs up."""

from __future__ import annotations

import array
import copy
import hashlib
import json
import os
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from keck_executor.runner.memory import DeviceFlags, Exporter, attach
from keck_executor.runner.trace import profiled, traced
from keck_executor.runner.trace_lines import pack_trace
from keck_executor.runner.tree import (
    Unsupported,
    dtype_name,
    fills_its_extent,
    flatten,
    nodes_from_json,
    rebuild,
)
from keck_executor.runner.user_code import (
    MissingName,
    draw_inputs,
    float32_matmul,
    load_module,
    prebuilt_extensions,
    seed_everything,
)
from keck_executor.runner.wire import (
    FLAG_IN_PLACE,
    MAX_DATAGRAM,
    MAX_TENSORS,
    Node,
    Reply,
    Status,
    TensorRecord,
    align,
    pack_reply,
)

__all__ = ["Runner"]

_MAX_FDS = 4
_OURS = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True)
class _Form:
    """What one input set looks like: its tree, and its tensors relative to the set's base."""

    nodes: tuple[Node, ...]
    tensors: tuple[tuple[torch.dtype, tuple[int, ...], tuple[int, ...], int, int], ...]


class Runner:
    """State of one side of one check."""

    def __init__(self, sock: socket.socket, device: torch.device) -> None:
        self._sock = sock
        self._device = device
        self._module: ModuleType | None = None
        self._model: Any = None
        self._extensions: list[ModuleType] = []
        self._classes: tuple[str, ...] = ()
        self._arenas: dict[int, torch.Tensor] = {}
        self._forms: dict[int, _Form] = {}
        self._flags: DeviceFlags | None = None
        self._kept: list[Any] = []  # results of a burst, alive until the next command
        self._weights: frozenset[int] = frozenset()  # addresses of parameters and buffers
        self._last: Any = None  # output of the last real call, which a null call hands back
        self._held: list[
            torch.Tensor
        ] = []  # results of the last call, until the judge says where it wants them
        self._commands: dict[str, Callable[[dict[str, Any], list[int]], Reply]] = {
            "load": self._load,
            "init_inputs": self._init_inputs,
            "construct": self._construct,
            "attach": self._attach,
            "mailbox": self._mailbox,
            "draw": self._draw,
            "draw_more": self._draw_more,
            "state": self._state,
            "buffers": self._buffers,
            "contract": self._contract,
            "accept": self._accept,
            "forms": self._register_forms,
            "call": self._call,
            "put": self._put_held,
            "calls": self._calls,
            "probe": self._probe,
            "burst": self._burst,
            "profile": self._profile,
            "trace": self._trace,
        }

    def serve(self) -> None:
        """Answer commands until the other end closes."""
        while True:
            data, fds = _receive(self._sock)
            if not data:
                return
            command = json.loads(data)
            self._sock.send(pack_reply(self._answer(command, fds)))

    def _answer(self, command: dict[str, Any], fds: list[int]) -> Reply:
        serial = int(command["serial"])
        self._kept.clear()
        try:
            return replace(self._commands[command["op"]](command, fds), serial=serial)
        except (MemoryError, torch.OutOfMemoryError) as error:
            return Reply(serial, Status.OUT_OF_MEMORY, text=_told(error))
        except Unsupported as error:
            return Reply(serial, Status.UNSUPPORTED, text=str(error).encode())
        except MissingName as error:
            return Reply(serial, Status.MISSING, text=str(error).encode())
        except BaseException as error:  # noqa: BLE001 - user code may raise anything, SystemExit included
            return Reply(serial, Status.EXCEPTION, text=_told(error))

    # --- loading and constructing

    def _load(self, command: dict[str, Any], _: list[int]) -> Reply:
        self._classes = tuple(command["classes"])
        extensions = {digest: (name, path) for digest, name, path in command["extensions"]}
        self._extensions = prebuilt_extensions(extensions, role=command["role"])
        self._module = load_module(command["path"], command["role"])
        for name in command["names"]:
            if not hasattr(self._module, name):
                raise MissingName(f"`{name}` is not defined after the module was imported")
        self._class()
        return _ok()

    def _class(self) -> Any:
        for name in self._classes:
            found = getattr(self._module, name, None)
            if found is not None:
                return found
        raise MissingName(f"no class {' or '.join(f'`{name}`' for name in self._classes)}")

    def _init_inputs(self, _: dict[str, Any], __: list[int]) -> Reply:
        assert self._module is not None
        nodes, tensors = flatten(self._module.get_init_inputs())
        if tensors:
            raise Unsupported(
                "a tensor in get_init_inputs(): numbers, strings, and lists and dicts of them work"
            )
        return _ok(nodes=nodes)

    def _construct(self, command: dict[str, Any], _: list[int]) -> Reply:
        arguments = rebuild(nodes_from_json(command["nodes"]), [])
        seed_everything(command["seed"])
        positional, named = _as_arguments(arguments)
        self._model = self._class()(*positional, **named)
        if isinstance(self._model, torch.nn.Module):
            self._model = self._model.to(self._device)
            state = (*self._model.parameters(), *self._model.buffers())
            self._weights = frozenset(tensor.untyped_storage().data_ptr() for tensor in state)
        return _ok()

    def _state(self, command: dict[str, Any], _: list[int]) -> Reply:
        """Count and digest parameters and buffers; with `copy` also write them to, or read them from, an arena.

        A digest of names, dtypes and shapes, for a model may have more of them than a reply has records.
        """
        state = self._model.state_dict() if isinstance(self._model, torch.nn.Module) else {}
        tensors = {name: value for name, value in sorted(state.items()) if isinstance(value, torch.Tensor)}
        arena = self._arenas.get(command.get("arena", -1))
        identity, offset = hashlib.sha256(), 0
        for name, value in tensors.items():
            nbytes = _dense_bytes(value)
            identity.update(json.dumps([name, dtype_name(value.dtype), list(value.shape)]).encode())
            room = arena is not None and offset + nbytes <= arena.numel()
            if room and command["copy"] != "no":
                assert arena is not None
                place = _dense(arena, offset, value.dtype, value.shape)
                if command["copy"] == "out":
                    place.copy_(value.detach())
                else:
                    with torch.no_grad():
                        value.copy_(place)
            offset = align(offset + nbytes)
        self._synchronize()
        return _ok(text=identity.digest(), numbers=(float(len(tensors)), float(offset)))

    def _buffers(self, command: dict[str, Any], _: list[int]) -> Reply:
        """The model's buffers by name, copied densely to an arena if one is named; a digest of their names and kinds."""
        found = dict(self._model.named_buffers()) if isinstance(self._model, torch.nn.Module) else {}
        names = sorted(found)
        if len(names) > MAX_TENSORS:
            raise Unsupported(f"a model with more than {MAX_TENSORS} buffers")
        tensors = [found[name].detach() for name in names]
        kinds = [[name, dtype_name(t.dtype), list(t.shape)] for name, t in zip(names, tensors, strict=True)]
        digest = hashlib.sha256(json.dumps(kinds).encode()).digest()
        if command["arena"] is None:
            needed = _laid_out(tensors)[1]
            return _ok(text=digest, numbers=(float(len(names)), float(needed)))
        records, needed = self._put(tensors, self._arenas[command["arena"]], 0)
        self._synchronize()
        return _ok(text=digest, tensors=tuple(records), numbers=(float(len(names)), float(needed)))

    def _contract(self, _: dict[str, Any], __: list[int]) -> Reply:
        """What the module declares of its answers: whether it has an `accept_output`, and `compare_buffers`."""
        accepts = callable(getattr(self._module, "accept_output", None))
        return _ok(numbers=(float(accepts), float(getattr(self._module, "compare_buffers", False) is True)))

    def _accept(self, command: dict[str, Any], _: list[int]) -> Reply:
        """What the module's `accept_output` says of an output that lies in an arena."""
        assert self._module is not None
        out = self._arenas[command["out"]]
        tensors = [
            _dense(out, offset, getattr(torch, dtype), shape) for dtype, shape, offset in command["tensors"]
        ]
        positional, named = self._arguments(command, command["items"][0])
        with torch.no_grad():
            answer = self._module.accept_output(
                rebuild(nodes_from_json(command["nodes"]), tensors), *positional, **named
            )
        if isinstance(answer, torch.Tensor) and answer.dtype is torch.bool and answer.numel() == 1:
            answer = bool(answer)
        if not isinstance(answer, bool | str):
            raise Unsupported(
                f"{type(answer).__name__} from accept_output(): True, False or text is asked for"
            )
        return _ok(
            numbers=(float(answer is True), 0.0), text=answer.encode() if isinstance(answer, str) else b""
        )

    # --- memory and inputs

    def _attach(self, command: dict[str, Any], fds: list[int]) -> Reply:
        self._arenas.pop(command["arena"], None)
        self._arenas[command["arena"]] = attach(command, fds)
        return _ok()

    def _mailbox(self, _: dict[str, Any], fds: list[int]) -> Reply:
        self._flags = DeviceFlags(fds[0])
        return _ok()

    def _draw(self, command: dict[str, Any], _: list[int]) -> Reply:
        nodes, tensors, on_device = self._drawn(command["seed"], command["law"])
        arena, base = self._arenas[command["arena"]], command["base"]
        records, offset = [], 0
        places = []
        for tensor in tensors:
            record = _record(_overlap_free(tensor), offset=offset)
            records.append(record)
            places.append(base + offset)
            offset = align(offset + record.nbytes)
        if base + offset > arena.numel():
            return Reply(0, Status.NO_ROOM, numbers=(0.0, float(offset)))
        for tensor, record, place in zip(tensors, records, places, strict=True):
            _strided(arena, place, tensor.dtype, record.shape, record.strides).copy_(tensor)
        self._synchronize()
        return _ok(nodes=nodes, tensors=tuple(records), numbers=(float(on_device), float(offset)))

    def _draw_more(self, command: dict[str, Any], _: list[int]) -> Reply:
        """Sets of a form already known, one slot after the other; ends before the first that has another form."""
        form, arena, slot = self._forms[command["form"]], self._arenas[command["arena"]], command["slot"]
        done, on_device = 0, True
        for seed in command["seeds"]:
            nodes, tensors, here = self._drawn(seed, "get_inputs")
            if nodes != form.nodes or not _has_form(tensors, form):
                break
            for tensor, (dtype, shape, strides, offset, _nbytes) in zip(tensors, form.tensors, strict=True):
                _strided(arena, done * slot + offset, dtype, shape, strides).copy_(tensor)
            done, on_device = done + 1, on_device and here
        self._synchronize()
        return _ok(numbers=(float(on_device), float(done)))

    def _drawn(self, seed: int, law: str) -> tuple[tuple[Node, ...], list[torch.Tensor], bool]:
        assert self._module is not None
        inputs, on_device = draw_inputs(self._module, self._device, seed, law=law)
        nodes, tensors = flatten([inputs] if isinstance(inputs, torch.Tensor) else inputs)
        return nodes, tensors, on_device

    def _register_forms(self, command: dict[str, Any], _: list[int]) -> Reply:
        for key, form in command["forms"].items():
            tensors = tuple(
                (getattr(torch, dtype), tuple(shape), tuple(strides), offset, nbytes)
                for dtype, shape, strides, offset, nbytes in form["tensors"]
            )
            self._forms[int(key)] = _Form(nodes_from_json(form["nodes"]), tensors)
        return _ok()

    def _inputs(self, item: list[int], arena: torch.Tensor, *, double: bool = False) -> Any:
        form, base = self._forms[item[0]], item[1]
        tensors = [
            _strided(arena, base + offset, dtype, shape, strides)
            for dtype, shape, strides, offset, _ in form.tensors
        ]
        return rebuild(form.nodes, [_widened(tensor) for tensor in tensors] if double else tensors)

    # --- calls

    def _forward(self, command: dict[str, Any], item: list[int]) -> Any:
        if command["null"]:
            return self._last
        return self._run(self._arguments(command, item))

    def _arguments(self, command: dict[str, Any], item: list[int]) -> tuple[list[Any], dict[str, Any]]:
        return _as_arguments(self._inputs(item, self._arenas[command["arena"]]))

    def _run(self, arguments: tuple[list[Any], dict[str, Any]]) -> Any:
        with torch.no_grad():
            return self._model(*arguments[0], **arguments[1])

    def _call(self, command: dict[str, Any], _: list[int]) -> Reply:
        """One call of `forward`; its outputs are kept until `put` says where they are to go."""
        with float32_matmul(command["tf32"]):
            output = self._forward(command, command["items"][0])
        return self._returned(command, output)

    def _returned(self, command: dict[str, Any], output: Any) -> Reply:
        reply = self._hold(output)
        if not command["null"]:
            self._last = output
        return reply

    def _hold(self, output: object) -> Reply:
        """The reply to a call: what it returned, and how it will lie in memory."""
        nodes, self._held = flatten(output, sort_keys=True)
        records, needed = _laid_out(self._held)
        return _ok(nodes=nodes, tensors=tuple(records), numbers=(0.0, float(needed)))

    def _put_held(self, command: dict[str, Any], _: list[int]) -> Reply:
        """Copy what the last call returned to where it is wanted; the device is idle afterwards."""
        out, held = self._arenas[command["out"]], self._held
        self._held = []
        needed = self._put(held, out, command["base"])[1]
        self._synchronize()
        return Reply(0, Status.OK if command["base"] + needed <= out.numel() else Status.NO_ROOM)

    def _calls(self, command: dict[str, Any], _: list[int]) -> Reply:
        """Calls of `forward` one after the other, each one's outputs in a slot of its own; the last one's nodes."""
        slot, out = command["slot"], self._arenas[command["out"]]
        nodes: tuple[Node, ...] = ()
        records: list[TensorRecord] = []
        status = Status.OK
        with float32_matmul(command["tf32"]):
            for index, item in enumerate(command["items"]):
                nodes, tensors = flatten(self._forward(command, item), sort_keys=True)
                put, needed = self._put(tensors, out, index * slot, room=slot)
                records += put
                if needed > slot:
                    status = Status.NO_ROOM
        self._synchronize()
        return Reply(0, status, nodes=nodes, tensors=tuple(records))

    def _probe(self, command: dict[str, Any], _: list[int]) -> Reply:
        """One call of a copy of the model, whose own state stays as it is; in double precision if asked."""
        reply = self._probed(command)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # of a copy of all weights, perhaps
        return reply

    def _probed(self, command: dict[str, Any]) -> Reply:
        if not isinstance(self._model, torch.nn.Module):
            raise Unsupported("a model that is no torch.nn.Module")
        model, double = copy.deepcopy(self._model), bool(command["double"])
        positional, named = _as_arguments(
            self._inputs(command["items"][0], self._arenas[command["arena"]], double=double)
        )
        default = torch.get_default_dtype()
        try:
            if double:
                model = model.double()
                torch.set_default_dtype(torch.float64)
            with torch.no_grad(), float32_matmul("off"):
                output = model(*positional, **named)
        finally:
            torch.set_default_dtype(default)
        return self._hold(output)

    def _burst(self, command: dict[str, Any], _: list[int]) -> Reply:
        """K calls behind a flag that the judge raises later; READY at once, OK when all is over."""
        assert self._flags is not None
        stream = torch.cuda.current_stream()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        slot, serial = command["slot"], command["flag"]
        records: list[TensorRecord] = []
        nodes: tuple[Node, ...] = ()
        exporter = Exporter()
        self._flags.wait_for_go(stream.cuda_stream, serial)
        begin.record(stream)
        for index, item in enumerate(command["items"]):
            output = self._forward(command, item)
            self._kept.append(output)
            nodes, tensors = flatten(output, sort_keys=True)
            if slot:
                records += self._put(tensors, self._arenas[command["out"]], index * slot, room=slot)[0]
            else:
                records += [_in_place(tensor, exporter, self._weights) for tensor in tensors]
        end.record(stream)
        self._flags.write_done(stream.cuda_stream, serial)
        ready = Reply(int(command["serial"]), Status.READY, nodes=nodes, tensors=tuple(records))
        self._sock.send(pack_reply(ready))
        torch.cuda.synchronize()
        return _ok(numbers=(begin.elapsed_time(end), 0.0))

    def _put(
        self, tensors: list[torch.Tensor], out: torch.Tensor, base: int, *, room: int | None = None
    ) -> tuple[list[TensorRecord], int]:
        """Copy outputs densely to the arena as far as they fit; their records, and the bytes all of them need."""
        limit = out.numel() if room is None else min(out.numel(), base + room)
        records, end = _laid_out(tensors, base)
        for tensor, record in zip(tensors, records, strict=True):
            if record.offset + record.nbytes <= limit:
                _dense(out, record.offset, tensor.dtype, tensor.shape).copy_(tensor)
        return records, end - base

    def _profile(self, command: dict[str, Any], _: list[int]) -> Reply:
        on_cuda = self._device.type == "cuda"
        sort = "self_cuda_time_total" if on_cuda else "self_cpu_time_total"
        with profiled(self._device) as profiler:
            self._forward(command, command["items"][0])
            self._synchronize()
        table = profiler.key_averages().table(sort_by=sort, row_limit=12, max_name_column_width=48)
        return _ok(text=table.encode())

    def _trace(self, command: dict[str, Any], _: list[int]) -> Reply:
        """A call like any other, and what it ran."""
        arguments = self._arguments(command, command["items"][0])
        output, lines = traced(lambda: self._run(arguments), self._device, self._extensions)
        return replace(self._returned(command, output), text=pack_trace(lines))

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def _ok(**fields: Any) -> Reply:
    return Reply(0, Status.OK, **fields)


def _told(error: BaseException) -> bytes:
    """The end of the traceback: where in the user's code it happened, and what."""
    told = traceback.TracebackException.from_exception(error)
    users = [frame for frame in told.stack if not frame.filename.startswith(_OURS)]
    told.stack = traceback.StackSummary.from_list(users)
    text = "".join(told.format()).replace(f"{os.getcwd()}/", "")
    return text[-8192:].encode("utf-8", "replace")


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    data, ancillary, _, _ = sock.recvmsg(
        4 * MAX_DATAGRAM, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


def _as_arguments(value: Any) -> tuple[list[Any], dict[str, Any]]:
    """How ``get_inputs`` and ``get_init_inputs`` results become call arguments."""
    if isinstance(value, dict):
        return [], value
    return list(value) if isinstance(value, list | tuple) else [value], {}


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    """The same in double precision, where it is a number that is rounded."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def _record(tensor: torch.Tensor, *, offset: int) -> TensorRecord:
    nbytes = _extent(tensor) if tensor.numel() else 0
    return TensorRecord(dtype_name(tensor.dtype), tuple(tensor.shape), tuple(tensor.stride()), offset, nbytes)


def _in_place(tensor: torch.Tensor, exporter: Exporter, weights: frozenset[int]) -> TensorRecord:
    """A result where `forward` put it; without a handle where it must be copied out: gaps, weights, no export."""
    dense = tensor.numel() > 0 and fills_its_extent(tensor.shape, tensor.stride())
    found = exporter.export(tensor) if dense and tensor.untyped_storage().data_ptr() not in weights else None
    if found is None:
        return _record(tensor, offset=0)
    handle, offset = found
    return replace(_record(tensor, offset=offset), flags=FLAG_IN_PLACE, handle=handle)


def _laid_out(tensors: list[torch.Tensor], base: int = 0) -> tuple[list[TensorRecord], int]:
    """Where they lie if they are copied densely from `base` on, one after the other; and where that ends."""
    records, offset = [], base
    for tensor in tensors:
        record = replace(_record(tensor, offset=offset), nbytes=_dense_bytes(tensor))
        records.append(record)
        offset = align(offset + record.nbytes)
    return records, offset


def _dense_bytes(tensor: torch.Tensor) -> int:
    """What its elements take where they are copied to: an expanded tensor spans less, one with gaps more."""
    return tensor.numel() * tensor.element_size()


def _extent(tensor: torch.Tensor) -> int:
    """Bytes from the first element to the end of the last."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def _has_form(tensors: list[torch.Tensor], form: _Form) -> bool:
    return len(tensors) == len(form.tensors) and all(
        (tensor.dtype, tuple(tensor.shape), tuple(_overlap_free(tensor).stride())) == (dtype, shape, strides)
        for tensor, (dtype, shape, strides, _, _) in zip(tensors, form.tensors, strict=True)
    )


def _overlap_free(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself if its elements fill their extent, else a contiguous stand-in of the same shape."""
    dense = tensor.numel() == 0 or fills_its_extent(tensor.shape, tensor.stride())
    return tensor if dense else torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def _dense(arena: torch.Tensor, offset: int, dtype: torch.dtype, shape: Any) -> torch.Tensor:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return _strided(arena, offset, dtype, tuple(shape), tuple(reversed(strides)))


def _strided(
    arena: torch.Tensor, offset: int, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...]
) -> torch.Tensor:
    if 0 in shape:
        return torch.empty(shape, dtype=dtype, device=arena.device)
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    size = (last + 1) * dtype.itemsize
    return arena[offset : offset + size].view(dtype).as_strided(shape, strides)
