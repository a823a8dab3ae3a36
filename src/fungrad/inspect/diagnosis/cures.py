"""The usual cures, each a short text with the code to write."""

DOUBLE_WHERE = (
    "the double where: put a harmless number in before the operation, and mask its result after: "
    "safe = jnp.where(mask, x, 1.0); y = jnp.where(mask, f(safe), 0.0)"
)
SAFE_NORM = (
    "a safe norm: s = jnp.sum(x**2); jnp.where(s > 0, jnp.sqrt(jnp.where(s > 0, s, 1.0)), 0.0); "
    "or jnp.sqrt(s + eps)"
)
SAFE_ROOT = "add a small number under the root, jnp.sqrt(x + eps), or use " + DOUBLE_WHERE
SAFE_DEVIATION = "add a small number under the root: jnp.sqrt(jnp.var(x) + eps)"
SAFE_QUOTIENT = (
    "keep the denominator away from zero, x / jnp.maximum(y, eps) or jnp.maximum(count, 1), or use "
    + DOUBLE_WHERE
)
LOG_SPACE = (
    "stay in log space: jax.nn.log_softmax(z) instead of log(softmax(z)), jax.nn.log_sigmoid, "
    "jax.scipy.special.xlogy for p log p; or jnp.log(jnp.maximum(p, tiny))"
)
LOG_SUM_EXP = (
    "take the maximum out first, jax.nn.logsumexp(z) or jax.nn.softmax(z); or bound the exponent "
    "with jnp.minimum; or use a wider dtype"
)
MASKED_ROW = (
    "leave one entry of each row unmasked, or mask with a large finite number, "
    "jnp.finfo(x.dtype).min; or put harmless scores into such rows, and mask the result"
)
WIDER = (
    "a wider dtype for this step, x.astype(jnp.float32), or smaller numbers: a smaller loss scale, "
    "a mean instead of a sum, normalised inputs"
)
WIDER_OR_SCALED = (
    "a wider dtype for this step, x.astype(jnp.float32), or loss scaling: multiply the loss by "
    "2**10 or more, and divide the gradients by it in float32"
)
SAFE_POWER = (
    "keep the base positive, jnp.maximum(x, eps) ** p, or use an integer power, or " + DOUBLE_WHERE
)
INSIDE_DOMAIN = (
    "keep the argument inside, jnp.clip(x, -1 + eps, 1 - eps); for the angle between vectors, "
    "jnp.arctan2(norm of the cross product, dot product)"
)
SAFE_ANGLE = "keep the vector away from zero: where both are 0, put in (0, 1) by jnp.where first"
AWAY_FROM_POLES = "keep the argument away from the poles of the function, by " + DOUBLE_WHERE
REGULAR = (
    "make the matrix regular: add eps * jnp.eye(n), use jnp.linalg.lstsq or pinv, or remove "
    "dependent rows"
)
POSITIVE = "make the matrix positive definite: (A + A.T) / 2 + eps * jnp.eye(n)"
DISTINCT = (
    "eigenvectors of equal eigenvalues have no gradient, the eigenvalues have one: do without the "
    "vectors, or separate the values, A + eps * jnp.diag(jnp.arange(n))"
)
MEND = "mend the derivative that the function's author wrote"
CUSTOM = MEND + ", e.g. by " + DOUBLE_WHERE
CLEAN_DATA = (
    "clean the data first: jnp.nan_to_num, or jnp.where(jnp.isfinite(x), x, 0.0) and a mask"
)
UNBOUNDED = "find out why the number is so large: normalise, clip, or use a wider dtype"
PLAIN = "look at the numbers above, and keep them out of this operation by " + DOUBLE_WHERE

STRAIGHT_THROUGH = (
    "a straight-through rule: fungrad.grad(f, rules=fungrad.rulebooks.straight_through), or "
    "x + jax.lax.stop_gradient(hard(x) - x)"
)
SOFTER = (
    "a smooth function in its place: jax.nn.softmax instead of argmax, jax.nn.sigmoid instead of a "
    "comparison, or " + STRAIGHT_THROUGH
)
STAY_FLOAT = "do not convert to integers what shall have a gradient; or " + STRAIGHT_THROUGH
LEAVE_OUT_STOP = "leave out the stop_gradient, if it is not meant"
REVIVE = (
    "a smaller learning rate or bias, another initialisation, or a unit that never dies: "
    "jax.nn.leaky_relu, jax.nn.gelu"
)
WIDEN_CLIP = "wider bounds, or a penalty instead of the clip, or " + STRAIGHT_THROUGH
UNSATURATE = (
    "smaller inputs: normalise them, divide logits by a temperature, initialise smaller; for a "
    "loss, one that takes logits"
)
NOT_ZERO = "do not initialise it by zeros, if the other factor shall learn from the first step on"
READ_IT = "use it, or leave it out of what is differentiated"
READ_ENTRY = "check the indices: out of range ones are dropped or clipped"
IN_BOTH = "read it in both branches, if both shall depend on it"
MOVE_OFF = "start from another point: here it is stationary"
NO_CANCEL = "check the expression: what is added is subtracted again"
CHOOSE_IT = "check the condition: the where never takes this branch"
