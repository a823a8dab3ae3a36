"""Every test runs in float64, and JAX neither mixes number formats nor passes over a warning.

The CPU counts as eight devices, for the tests of meshes; the others use the first. XLA plans as
ever, but LLVM does not polish the machine code: that takes longer than small programs run.
"""

import ctypes
import gc

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def memory_given_back():
    """What a module's tests compiled goes with it; kept, it is 5 GB a worker by the end."""
    yield
    jax.clear_caches()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc keeps what is freed otherwise
        libc.malloc_trim(0)
