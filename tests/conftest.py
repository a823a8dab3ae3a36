"""Every test runs in float64, and JAX neither mixes number formats nor passes over a warning."""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
