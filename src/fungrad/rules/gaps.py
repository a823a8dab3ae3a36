"""Primitives that keep JAX's own rule, each with its reason.

What they compute is not written in the language of graphs (a kernel, a foreign function), or has
a rule of its author's that JAX alone can find. No warning is given where one is used:
`fungrad.missing` lists it, and a strict book refuses it.
"""

from __future__ import annotations

from fungrad.rulebook import gap

_IN_KERNELS = "it stands in kernels only, and those are read by pallas_call alone"
_BY_JAX_ALONE = "JAX makes it, and transposes it, within its own reverse mode"
_INTERNAL = "no public function of JAX makes one"
_SPARSE = "what its arrays mean is jax.experimental.sparse's affair"

# --- Kernels and foreign functions ----------------------------------------------------------

pallas_call = gap("pallas_call", reason="its body is a kernel, in the language of an accelerator")
mpmd_map = gap("mpmd_map", reason="its bodies are kernels, in the language of an accelerator")
ffi_call = gap("ffi_call", reason="it calls a function that is written in another language")
masked_load = gap("masked_load", reason=_IN_KERNELS)
masked_swap = gap("masked_swap", reason=_IN_KERNELS)
get_global = gap("get_global", reason=_IN_KERNELS)
with_memory_space_constraint = gap(
    "with_memory_space_constraint", reason="it says where an argument of a kernel lies"
)

# --- Rules that their authors gave to JAX ---------------------------------------------------

call_hi_primitive = gap("call_hi_primitive", reason="its author gave it a rule, which JAX keeps")
call_hi_primitive_linearized = gap("call_hi_primitive_linearized", reason=_BY_JAX_ALONE)

# --- Formats and containers that JAX keeps to itself ----------------------------------------

to_edtype = gap("to_edtype", reason=_INTERNAL)
from_edtype = gap("from_edtype", reason=_INTERNAL)
relayout = gap("relayout", reason=_INTERNAL)
tie = gap("tie", reason=_INTERNAL)
stage = gap("stage", reason="it makes an array of a number, and in a graph each number is one")
boxes = tuple(gap(name, reason=_INTERNAL) for name in ("new_box", "box_get", "box_set"))
logs = tuple(gap(name, reason=_INTERNAL) for name in ("new_log", "log_read", "log_extend"))

# --- Sparse matrices ------------------------------------------------------------------------

_OF_SPARSE = """
todense bcoo_todense bcsr_todense coo_todense csr_todense
bcoo_fromdense bcsr_fromdense coo_fromdense csr_fromdense bcoo_extract bcsr_extract
bcoo_dot_general bcsr_dot_general bcoo_dot_general_sampled bcoo_spdot_general
coo_matvec coo_matmat csr_matvec csr_matmat spsolve
bcoo_transpose bcoo_sort_indices bcoo_sum_duplicates
"""
sparse = tuple(gap(name, reason=_SPARSE) for name in _OF_SPARSE.split())
