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
    assert len(world.objects) == 60
    assert len(world.named_instances) == 300
    assert len(world.named_styles) == 12
    assert len(world.backgrounds) == 18
    held = world.held_out
    assert (len(held.subjects), len(held.shapes), len(held.styles)) == (24, 8, 4)
    assert {"car", "cat", "house"} <= set(world.trained_objects)


@pytest.mark.slow
def test_training_scenes_contain_no_held_out_item(scenes: list[tuple[Scene, str]]) -> None:
    """No scene or caption has a held-out shape, pair of object and color, or pair of filters."""
    held = shipped_world().held_out
    for scene, text in scenes:
        words = text.split()
        assert scene.object not in held.shapes
        assert (scene.object, scene.color) not in held.colored_objects
        assert scene.style not in held.styles
        assert not set(words) & set(held.shapes)
        assert not any(name in words and f"{color} {name}" in text for name, color in held.colored_objects)
        assert not any(color in words and form in words for color, form in held.styles)


def test_invented_words_name_no_held_out_item() -> None:
    """No named instance and no named style is held out."""
    world = shipped_world()
    for name, color, _ in world.named_instances.values():
        assert name not in world.held_out.shapes
        assert (name, color) not in world.held_out.colored_objects
    assert not set(world.named_styles.values()) & set(world.held_out.styles)


def test_scenes_cover_the_world(scenes: list[tuple[Scene, str]]) -> None:
    """Every trained object, background and style occurs, named instances in a third, styles in a tenth."""
    world = shipped_world()
    assert {scene.object for scene, _ in scenes} == set(world.trained_objects)
    assert {scene.background for scene, _ in scenes} == set(world.backgrounds)
    assert {scene.style for scene, _ in scenes} - {("", "")} == set(world.trained_styles)
    named = sum(bool(set(text.split()) & set(world.named_instances)) for _, text in scenes) / SCENES
    styled = sum(scene.style != ("", "") for scene, _ in scenes) / SCENES
    assert 0.30 < named < 0.36
    assert 0.08 < styled < 0.12


def test_an_unreadable_list_is_refused(edited: Callable[[str, str, str], Path]) -> None:
    """Bytes of another encoding and a folder in place of the file give a message with the path."""
    path = edited("world.toml", "cat", "cat") / "world.toml"
    path.write_bytes(b'objects = "caf\xe9"')
    with pytest.raises(WorldError, match=r"world\.toml: not TOML: .*utf-8"):
        read_world(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(WorldError, match=r"world\.toml: cannot read: Is a directory"):
        read_world(path.parent)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("named_instances.toml", '"bear"', '"zebra"', "got the object 'zebra'; expected one of apple"),
        ("named_instances.toml", '"green"', '"mauve"', "got the color 'mauve'"),
        ("held_out.toml", '"koala"', '"yeti"', "got the object 'yeti'"),
        ("held_out.toml", '["sepia", "pixelated"]', '["sepia", "cubist"]', "got the form filter 'cubist'"),
        ("world.toml", "[colors]", "[colors", "not TOML"),
        ("world.toml", "[objects]", "[things]", "missing or malformed"),
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
            r"lists\.painted_backgrounds: got 'on Mars'; expected one of by a brick",
        ),
        (
            "world.toml",
            '"sepia"',
            '"noir"',
            r"lists\.color_filters: got 'noir'; expected one of blueprint",
        ),
        ("world.toml", '"framed"', '"sepia"', r"lists\.form_filters: got 'sepia'; expected one of framed"),
        ("world.toml", '["striped", "spotted"]', "3", r"lists\.patterns: got 3; expected one of"),
        (
            "world.toml",
            "[214, 48, 49]",
            "[214, 48, 256]",
            r"colors\.red: got \[214, 48, 256\]; expected three whole",
        ),
        ("world.toml", "cat =", '"polar bear" =', "objects: got 'polar bear'; expected one word"),
        ("named_instances.toml", "bamu =", "crab =", "named instances: got 'crab', which is also in objects"),
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
    folder = edited("named_instances.toml", old, new)
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
