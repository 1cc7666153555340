"""The world files: validation and held-out items."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.emoji.compose import scene_of_seed
from models.emoji.errors import LeakError, WorldError
from models.emoji.world import LISTS, Scene, World, read_world, shipped_world

SCENES = 20_000


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """Return a function that copies the world files and replaces one text in one file."""

    def edit(name: str, old: str, new: str) -> Path:
        shutil.copytree(LISTS, tmp_path / "lists")
        path = tmp_path / "lists" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return tmp_path / "lists"

    return edit


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Scene, str]]:
    """Return many training scenes with their captions."""
    world = shipped_world()
    return [scene_of_seed(seed, world) for seed in range(SCENES)]


def test_lists_have_the_documented_sizes() -> None:
    """The world has the documented numbers of objects, named instances, styles, backgrounds and held-out items."""
    world = shipped_world()
    assert len(world.things) == 60
    assert len(world.individuals) == 300
    assert len(world.named_styles) == 12
    assert len(world.grounds) == 18
    held = world.held_out
    assert (len(held.subjects), len(held.shapes), len(held.styles)) == (24, 8, 4)
    assert {"car", "cat", "house"} <= set(world.trained_things)


def test_training_scenes_contain_no_held_out_item(scenes: list[tuple[Scene, str]]) -> None:
    """No scene or caption has a held-out shape, pair of object and color, or pair of filters."""
    held = shipped_world().held_out
    for scene, text in scenes:
        words = text.split()
        assert scene.thing not in held.shapes
        assert (scene.thing, scene.tint) not in held.tinted_things
        assert scene.style not in held.styles
        assert not set(words) & set(held.shapes)
        assert not any(thing in words and f"{tint} {thing}" in text for thing, tint in held.tinted_things)
        assert not any(color in words and form in words for color, form in held.styles)


def test_invented_words_name_no_held_out_item() -> None:
    """No named instance and no named style is held out."""
    world = shipped_world()
    for thing, tint, _ in world.individuals.values():
        assert thing not in world.held_out.shapes
        assert (thing, tint) not in world.held_out.tinted_things
    assert not set(world.named_styles.values()) & set(world.held_out.styles)


def test_scenes_cover_the_world(scenes: list[tuple[Scene, str]]) -> None:
    """Every trained object, background and style occurs, named instances in a third, styles in a tenth."""
    world = shipped_world()
    assert {scene.thing for scene, _ in scenes} == set(world.trained_things)
    assert {scene.ground for scene, _ in scenes} == set(world.grounds)
    assert {scene.style for scene, _ in scenes} - {("", "")} == set(world.trained_styles)
    named = sum(bool(set(text.split()) & set(world.individuals)) for _, text in scenes) / SCENES
    styled = sum(scene.style != ("", "") for scene, _ in scenes) / SCENES
    assert 0.30 < named < 0.36
    assert 0.08 < styled < 0.12


def test_an_unreadable_list_is_refused(edited: Callable[[str, str, str], Path]) -> None:
    """Bytes of another encoding and a folder in place of the file give a message with the path."""
    path = edited("world.toml", "cat", "cat") / "world.toml"
    path.write_bytes(b'things = "caf\xe9"')
    with pytest.raises(WorldError, match=r"world\.toml: not TOML: .*utf-8"):
        read_world(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(WorldError, match=r"world\.toml: cannot read: Is a directory"):
        read_world(path.parent)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("individuals.toml", '"bear"', '"zebra"', "got the thing 'zebra'; expected one of apple"),
        ("individuals.toml", '"green"', '"mauve"', "got the tint 'mauve'"),
        ("held_out.toml", '"koala"', '"yeti"', "got the thing 'yeti'"),
        ("held_out.toml", '["sepia", "pixelated"]', '["sepia", "cubist"]', "got the form look 'cubist'"),
        ("world.toml", "[tints]", "[tints", "not TOML"),
        ("world.toml", "[things]", "[objects]", "missing or malformed"),
        (
            "world.toml",
            '"spotted"',
            '"zigzag"',
            r"lists\.patterns: got 'zigzag'; expected one of spotted",
        ),
        (
            "world.toml",
            '"on the wood"',
            '"on Mars"',
            r"lists\.scenes: got 'on Mars'; expected one of by a brick",
        ),
        (
            "world.toml",
            '"sepia"',
            '"noir"',
            r"lists\.colour_looks: got 'noir'; expected one of blueprint",
        ),
        ("world.toml", '"framed"', '"sepia"', r"lists\.form_looks: got 'sepia'; expected one of framed"),
        ("world.toml", '["striped", "spotted"]', "3", r"lists\.patterns: got 3; expected one of"),
        (
            "world.toml",
            "[214, 48, 49]",
            "[214, 48, 256]",
            r"tints\.red: got \[214, 48, 256\]; expected three whole",
        ),
        ("world.toml", "cat =", '"polar bear" =', "things: got 'polar bear'; expected one word"),
        ("individuals.toml", "bamu =", "crab =", "individuals: got 'crab', which is also in things"),
    ],
)
def test_a_list_with_an_unknown_name_is_refused(
    edited: Callable[[str, str, str], Path], name: str, old: str, new: str, message: str
) -> None:
    """The message has the list, the unknown name and the known ones."""
    folder = edited(name, old, new)
    with pytest.raises(WorldError, match=message):
        read_world(folder)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    """The message for a folder without world files has the missing file's path."""
    with pytest.raises(WorldError, match=r"world\.toml: file not found"):
        read_world(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('bamu = ["bear", "green", "striped"]', 'bamu = ["watermelon", "red", ""]', "red watermelon"),
        ('bamu = ["bear", "green", "striped"]', 'bamu = ["koala", "green", "striped"]', "koala"),
        ('goter = ["blueprint", "pixelated"]', 'goter = ["sepia", "pixelated"]', "sepia"),
    ],
)
def test_a_held_out_item_in_a_training_list_is_refused(
    edited: Callable[[str, str, str], Path], old: str, new: str, message: str
) -> None:
    """A held-out named instance or named style raises an error when the world is read."""
    folder = edited("individuals.toml", old, new)
    with pytest.raises(LeakError, match=message):
        read_world(folder)


def test_the_scene_check_refuses_held_out_scenes() -> None:
    """The check raises an error for each kind of held-out item and accepts other scenes."""
    world: World = shipped_world()
    held = world.held_out
    for leak in (
        Scene(held.shapes[0], "", "", "on red"),
        Scene(*held.subjects[0], "on red"),
        Scene("cat", "", "", "on red", held.styles[0]),
    ):
        with pytest.raises(LeakError, match="held out of all training"):
            held.check(leak)
    held.check(Scene("cat", "", "", "on red"))
