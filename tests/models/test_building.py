"""Published sizes: the parameters of each model are as many as its paper's."""

import jax
import pytest

from fungrad import models

IMAGE_TOWER = {"patch": 14, "width": 1024, "heads": 16, "blocks": 24}
TEXT_TOWER = {"width": 768, "heads": 12}


@pytest.mark.parametrize(
    ("name", "sizes", "options", "number"),
    [
        ("resnet", (18,), {}, 11_689_512),
        ("resnet", (34,), {}, 21_797_672),
        ("resnet", (50,), {}, 25_557_032),
        ("resnet", (101,), {}, 44_549_160),
        ("resnet", (152,), {}, 60_192_808),
        ("vgg", (11,), {}, 132_863_336),
        ("vgg", (13,), {}, 133_047_848),
        ("vgg", (16,), {}, 138_357_544),
        ("vgg", (19,), {}, 143_667_240),
        ("vgg", (16,), {"batch_norm": True}, 138_365_992),
        ("vit", (), {}, 86_567_656),
        ("vit", (), IMAGE_TOWER | {"patch": 16}, 304_326_632),
        ("clip", (), {}, 151_277_313),
        ("clip", (768,), {"image": IMAGE_TOWER, "text": TEXT_TOWER}, 427_616_513),
    ],
)
def test_published_models_have_their_numbers_of_parameters(name, sizes, options, number):
    _, params = models.shapes(name, *sizes, **options)
    assert models.count(params) == number
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params))


def test_running_statistics_are_not_counted():
    _, params = models.shapes("resnet", 18)
    everything = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert everything - models.count(params) == 2 * 4800
