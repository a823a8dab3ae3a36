"""Every test runs in float64, and JAX neither mixes number formats nor passes over a warning.

The CPU counts as eight devices, for the tests of meshes; the others use the first.
"""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 8)
