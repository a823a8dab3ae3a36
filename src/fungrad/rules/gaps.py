"""Primitives that keep JAX's own rule, each with its reason.

What such a primitive computes is written in another language than that of graphs: a kernel for an
accelerator, a foreign function. No Jacobian can be read off it, so JAX's rule serves at that
node. No warning is given; `fungrad.missing` lists it, and a strict book refuses it.
"""

from __future__ import annotations

from fungrad.rulebook import gap

pallas_call = gap("pallas_call", reason="its body is a kernel, whose rule is the kernel's author's")
ffi_call = gap("ffi_call", reason="it calls a foreign function, of which nothing is known")
