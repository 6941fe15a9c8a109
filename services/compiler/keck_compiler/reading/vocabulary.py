"""Names that mean something where they stand in a candidate's text."""

from __future__ import annotations

import re

__all__ = [
    "COMPUTING",
    "COMPUTING_METHODS",
    "CPP_INTROSPECTION",
    "CPP_LOW_TYPES",
    "GENERATORS",
    "HOLDERS",
    "INTROSPECTION_ATTRIBUTES",
    "INTROSPECTION_CALLS",
    "INTROSPECTION_MODULES",
    "LIBRARY_CALL",
    "LIBRARY_HEADER",
    "LIBRARY_MODULES",
    "PYTHON_LOW_TYPES",
    "TORCH_SETTINGS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COMPUTING_METHODS = _words(
    """
    matmul mm bmm mv addmm addmv baddbmm addbmm dot einsum softmax log_softmax logsumexp relu relu_ gelu silu sigmoid
    sigmoid_ tanh tanh_ exp exp_ log sqrt rsqrt pow add add_ sub mul mul_ div div_ addcmul addcdiv sum mean var std
    norm amax amin argmax argmin cumsum cumprod sort topk clamp clamp_ masked_fill index_select gather scatter_add
    """
)
"""Methods of tensors that compute."""
COMPUTING = COMPUTING_METHODS | _words(
    """
    tensordot outer linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    convolution batch_norm layer_norm group_norm instance_norm rms_norm normalize native_layer_norm
    scaled_dot_product_attention multi_head_attention_forward max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d
    avg_pool3d adaptive_avg_pool2d adaptive_max_pool2d leaky_relu elu selu celu hardtanh hardswish hardsigmoid mish
    softplus softsign logsigmoid glu cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss kl_div
    binary_cross_entropy cosine_similarity triplet_margin_loss embedding embedding_bag interpolate grid_sample cdist
    where maximum minimum max min prod addr ger chain_matmul _scaled_mm multi_dot
    """
)
"""Functions of torch's, in Python (`torch`, `torch.nn.functional`, `torch.ops.aten`) and C++ (`at`, `torch`)."""
HOLDERS = frozenset(
    (
        "Parameter",
        "Module",
        "ModuleList",
        "ModuleDict",
        "ParameterList",
        "ParameterDict",
        "Buffer",
        "Identity",
    )
)
"""Classes of `torch.nn` that compute nothing."""
GENERATORS = frozenset(
    ("torch.compile", "torch.jit.script", "torch.jit.trace", "torch.jit.freeze", "torch._dynamo.optimize", "torch.fx.symbolic_trace")
)  # fmt: skip
PYTHON_LOW_TYPES = frozenset(
    (
        "half",
        "bfloat16",
        "float16",
        "float8_e4m3fn",
        "float8_e5m2",
        "HalfTensor",
        "BFloat16Tensor",
        "allow_tf32",
    )
)
CPP_LOW_TYPES = _words(
    """
    __half __half2 half2 __nv_bfloat16 __nv_bfloat162 nv_bfloat16 __float2half __float2half_rn __float2bfloat16
    __float2bfloat16_rn kHalf kBFloat16 BFloat16 Half __nv_fp8_e4m3 __nv_fp8_e5m2 tf32 tfloat32_t half_t bfloat16_t
    """
)
CPP_INTROSPECTION = _words(
    """
    dlopen dlsym dl_iterate_phdr system popen getenv setenv fork execve ptrace process_vm_readv PyEval_GetFrame
    PyImport_GetModuleDict PyRun_SimpleString PyRun_String findSchemaOrThrow
    """
)
LIBRARY_HEADER = re.compile(
    r"(?:cublas|cudnn|cutlass/|cute/|cusparse|cusolver|cufft|cutensor|curand|cub/|thrust/|nccl|mkl|cblas|dnnl|"
    r"oneapi/dnnl|Eigen/|ATen/cuda/CUDABlas|ATen/native/)"
)
LIBRARY_CALL = re.compile(
    # As the libraries write their functions: `cublasSgemm` is one, `cublas_like` and `cudnnish` are not.
    r"(?:cublas|cudnn|cusparse|cusolver|cufft|cutensor)(?:Lt|Xt|Dn|Sp|Mg|Mp)?[A-Z]\w*"
    r"|(?:cblas|mkl|dnnl)_[a-z]\w*"
)
LIBRARY_MODULES = frozenset(
    ("cupy", "flash_attn", "xformers", "liger_kernel", "deep_gemm", "flashinfer", "bitsandbytes", "transformer_engine", "apex", "numba", "jax", "tensorflow", "cutlass", "nvmath", "cuda.cccl")
)  # fmt: skip
INTROSPECTION_MODULES = frozenset(
    ("inspect", "gc", "ctypes", "subprocess", "cffi", "multiprocessing", "mmap")
)
INTROSPECTION_ATTRIBUTES = _words(
    """
    __globals__ __closure__ __code__ __subclasses__ __builtins__ f_back f_globals f_locals tb_frame gi_frame cr_frame
    """
)
INTROSPECTION_CALLS = _words(
    """
    sys.modules sys._getframe sys._current_frames sys.settrace sys.setprofile sys.meta_path sys.path_hooks os.environ
    os.getenv os.system os.popen os.fork os.kill os.execv os.execve threading.settrace threading.setprofile
    builtins.exec builtins.eval
    """
)
TORCH_SETTINGS = ("torch.backends.", "torch._inductor.config", "torch._dynamo.config")
"""Attributes of torch's that are there to be set."""
