"""What the zygote must not do at import: wake the driver, or NVML, which do not survive its forks."""

from __future__ import annotations

import subprocess
import sys

SPY = """
import torch, torch.cuda
touched = []
def spy(owner, name):
    original = getattr(owner, name)
    def watched(*args, **kwargs):
        touched.append(name)
        return original(*args, **kwargs)
    setattr(owner, name, watched)
for name in ("device_count", "_raw_device_count_nvml", "_raw_device_uuid_nvml", "_lazy_init"):
    spy(torch.cuda, name)
spy(torch._C, "_cuda_getDeviceCount")
import keck_executor.runner.zygote
import torch.utils.cpp_extension
print(",".join(touched) or "nothing", torch.utils.cpp_extension.load_inline.__name__)
"""


def test_importing_everything_a_runner_needs_touches_no_gpu() -> None:
    done = subprocess.run([sys.executable, "-c", SPY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nothing", "load_inline"]
