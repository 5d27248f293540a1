"""Looking: conversations about seen scenes, what lies on their cells, and names with their places."""

import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maya_core.languages import CODES, LANGUAGES
from maya_core.learning.data import IGNORED, PackedCollator
from maya_core.model.config import OVERVIEWS
from maya_core.model.towers.photograph import TONES
from tests.training.embedded.conftest import GRID, ROWS, SIZE, WIDTH
from training.embedded.looking import (
    NOTHING,
    PLACES,
    SAYS_LITTLE,
    UNKNOWN,
    Both,
    CellCollator,
    Looking,
    LookingCollator,
    colours_of,
    lain_on,
)
from training.embedded.simulated import Simulator
from training.emoji_vqa.scenes import make_scene
from training.photo_vqa import scenes as photo
from training.photo_vqa.evaluate import said_with_doubt
from training.photo_vqa.manner import PLAIN, Manner
from training.photo_vqa.phrases import COLOURS
from training.photo_vqa.scenes import Photograph, Piece, Scene, Seen, drawn
from training.photo_vqa.texts import forms_of, is_spaced
from training.photo_vqa.things import load_things

NUMBERS = {thing: number for number, thing in enumerate(load_things())}
PHOTOGRAPH = Photograph(file=Path("nowhere.jpg"), things=(), lists_all=False)
WHOLE = Piece(photograph=PHOTOGRAPH)
PART = replace(WHOLE, box=(0.0, 0.0, 0.5, 0.5))


@pytest.fixture(scope="module")
def simulator():
    """Makes nothing of anything: a scene stays as it is, or gets things that look like nothing."""
    nothing = torch.zeros(1280)
    return Simulator({}, {"piano": nothing, "dog": nothing}, [nothing], GRID)


@pytest.fixture(scope="module")
def looking(seen, simulator):
    return Looking(seen=seen, simulator=simulator, grid=GRID, conversations=4, names=8)


def texts(sample, role):
    return [message.text for turns in sample.packed.conversations for message in turns if message.role == role]


# --- what lies on cells ---


def test_on_a_photograph_alone_what_nobody_named_is_unknown():
    dog = Seen(thing="dog", x=0.25, y=0.25, width=0.5, height=0.5, colour="brown")
    things = lain_on(Scene(pieces=(WHOLE,), things=(dog,), ground="green"), 6).view(6, 6)
    assert (things[:3, :3] == NUMBERS["dog"]).all()
    assert set(things[3:].flatten().tolist()) == {UNKNOWN}


def test_between_what_is_pasted_or_drawn_lies_nothing():
    dog = Seen(thing="dog", x=0.25, y=0.25, width=0.5, height=0.5)
    for scene in (
        Scene(pieces=(PART,), things=(dog,), ground="green"),
        Scene(pieces=(PART, replace(PART, box=(0.5, 0.5, 0.5, 0.5))), things=(dog,), ground="green"),
    ):
        things = lain_on(scene, 6).view(6, 6)
        assert (things[:3, :3] == NUMBERS["dog"]).all()
        assert set(things[3:].flatten().tolist()) == {NOTHING}


def test_what_is_smaller_lies_on_top():
    """Whatever comes first."""
    large, small = Seen(thing="table", width=0.9, height=0.9), Seen(thing="cup", x=0.25, y=0.75, width=0.2, height=0.2)
    for things in ((large, small), (small, large)):
        lain = lain_on(Scene(pieces=(WHOLE,), things=things), 6).view(6, 6)
        assert lain[4, 1] == NUMBERS["cup"]
        assert (lain == NUMBERS["cup"]).sum() == 1
        assert (lain == NUMBERS["table"]).sum() > 10


def test_a_drawing_that_is_none_of_our_things_may_lie_anywhere_else(monkeypatch):
    drawing = make_scene("train", 3, number=2)
    known = lain_on(drawn(drawing), 6)
    assert NOTHING in known
    assert UNKNOWN not in known
    monkeypatch.setattr(photo, "by_emoji", dict)
    unknown = lain_on(drawn(drawing), 6)
    assert set(unknown.tolist()) == {UNKNOWN}


def test_a_cell_says_its_own_colour_and_the_picture_and_its_parts_what_most_of_them_has():
    """Whatever lies there: an elephant that is grey has black feet."""
    tones = {"red": (205, 50, 45), "blue": (65, 115, 205), "white": (245, 245, 245)}
    features_PD = torch.zeros(36 + OVERVIEWS + 3, WIDTH)

    def paint(rows, *names):  # a colour for each quarter
        parts_CQ = torch.tensor([tones[name] for name in names]).T / 127.5 - 1
        features_PD[rows, TONES] = parts_CQ.flatten()

    features_PD[: 36 + OVERVIEWS, -1] = 1  # their places
    paint(slice(0, 36), *["blue"] * 4)
    paint(slice(0, 12), *["red"] * 4)  # the upper third
    paint(12, "red", "blue", "blue", "blue")
    paint(13, "red", "red", "blue", "blue")  # neither has most of it
    paint(36 + OVERVIEWS, *["white"] * 4)  # what was found
    named = [COLOURS[number] if number != UNKNOWN else "" for number in colours_of(features_PD.half(), 6).tolist()]
    assert named[:15] == ["red"] * 12 + ["blue", "", "blue"]
    assert named[36:46] == ["blue"] + ["red"] * 3 + ["blue"] * 6
    assert named[46:] == ["white", "", ""]  # and where nothing was found
    assert len(colours_of(features_PD[:36], 6)) == 36


# --- samples ---


def test_a_sample_repeats_and_each_round_asks_anew(looking):
    assert len(looking) == looking.rounds * SIZE
    one, again, later = looking[3], looking[3], looking[3 + SIZE]
    assert torch.equal(one.features, again.features)
    assert torch.equal(one.things, again.things)
    assert (one.packed, one.names, one.cells) == (again.packed, again.names, again.cells)
    assert texts(one, "user") != texts(later, "user")
    assert texts(replace(looking, seed=1)[3], "user") != texts(one, "user")
    assert one.features.shape == (ROWS, WIDTH)
    assert one.features.dtype == torch.float16


def test_every_conversation_is_whole(looking):
    lengths, languages = Counter(), Counter()
    for index in range(2 * SIZE):
        sample = looking[index]
        assert len(sample.packed.conversations) == len(sample.packed.languages) == 4
        for turns, language in zip(sample.packed.conversations, sample.packed.languages, strict=True):
            assert [message.role for message in turns] == ["user", "assistant"] * (len(turns) // 2)
            assert [len(message.images) for message in turns] == [1] + [0] * (len(turns) - 1)
            assert all(message.text.strip() for message in turns)
            lengths[len(turns) // 2] += 1
            languages[language] += 1
    assert {1, 2} <= set(lengths) <= {1, 2, 3}
    assert lengths[1] > lengths[2]
    longer = replace(looking, followed=1.0)
    assert max(len(turns) for index in range(2 * SIZE) for turns in longer[index].packed.conversations) == 6
    assert set(languages) == set(CODES)
    pretrained = replace(looking, languages=("en", "ja"))
    assert {code for index in range(SIZE) for code in pretrained[index].packed.languages} == {"en", "ja"}
    assert looking[0].packed is not None
    assert replace(looking, conversations=0, names=0)[0].packed is None


def test_some_ask_for_an_answer_in_a_language_by_name_and_get_it(looking):
    requests = {language.request: language.code for language in LANGUAGES}
    redirected, plain = (replace(looking, redirected=share, on_a_page=0.0, manner=PLAIN) for share in (1.0, 0.0))
    asked_little, elsewhere = 0, 0
    for index in range(SIZE):
        sample = redirected[index]
        for turns, code in zip(sample.packed.conversations, sample.packed.languages, strict=True):
            for message in turns[::2]:
                text, request = message.text.rsplit("\n", 1)
                assert requests[request] == code
                asked_little += text in SAYS_LITTLE
                elsewhere += code not in ("zh", "ja") and any("\u3040" <= letter <= "\u9fff" for letter in text)
            if code in ("zh", "ja", "ru", "ar", "hi", "bn", "ur"):
                assert not any(message.text.isascii() and message.text.isalpha() for message in turns[1::2])
        assert not any(request in text for text in texts(plain[index], "user") for request in requests)
        assert plain[index].packed.languages
    assert elsewhere > 3  # a question in Chinese or Japanese, its answer in another language
    assert asked_little > 0


def test_on_a_page_a_question_that_does_not_say_its_language_asks_for_it(looking):
    requests = {language.code: language.request for language in LANGUAGES}
    paged = replace(looking, redirected=0.0, on_a_page=1.0, manner=PLAIN, conversations=12)
    asked = {True: 0, False: 0}
    for index in range(SIZE):
        sample = paged[index]
        for turns, code in zip(sample.packed.conversations, sample.packed.languages, strict=True):
            for message in turns[::2]:
                text, _, request = message.text.partition("\n")
                assert request in ("", requests[code])
                if code in ("hi", "ur") and text.isascii():
                    assert request
                asked[bool(request)] += 1
    assert asked[False] > 5 * asked[True] > 5


def test_some_are_written_without_care(looking, seen):
    plain = replace(looking, manner=PLAIN, redirected=0.0, on_a_page=0.0)
    careless, neat = replace(plain, manner=Manner(careless=1.0)), plain
    photographs = [index for index in range(SIZE) if not seen.scene(index).drawing]
    for index in photographs:
        assert not any(text[0].isupper() or text[-1] in "?.!？。！؟۔।" for text in texts(careless[index], "user"))
    assert any(text[0].isupper() for index in photographs for text in texts(neat[index], "user"))


def test_what_is_taken_for_something_else_is_named_with_doubt_and_not_changed(looking, seen):
    alone = [
        index for index in range(SIZE) if len(seen.scene(index).things) == 1 and not seen.scene(index).lists_all
        and seen.scene(index).pieces]  # fmt: skip
    doubting = replace(looking, perhaps=dict.fromkeys(alone, "piano"), conversations=30, redirected=0.0, followed=0.0)
    doubted = 0
    for index in alone:
        sample = doubting[index]
        assert torch.equal(sample.features, seen.features(index))
        for turns, code in zip(sample.packed.conversations, sample.packed.languages, strict=True):
            doubted += said_with_doubt(turns[1].text, code)[0]
    assert doubted > 3 * len(alone)
    assert not any(
        said_with_doubt(turns[1].text, code)[0]
        for sample in (looking[index] for index in range(SIZE))
        for turns, code in zip(sample.packed.conversations, sample.packed.languages, strict=True)
    )


def test_what_is_asked_for_in_vain_is_what_scenes_of_its_sort_show(looking, seen):
    """Each thing as often as it is shown, and everything at least sometimes."""
    rng = random.Random(0)
    for lists_all in (False, True):
        scenes = [seen.scene(index) for index in range(len(seen))]
        scene = next(scene for scene in scenes if scene.lists_all == lists_all)
        shown = {thing.thing for scene in scenes if scene.lists_all == lists_all for thing in scene.things}
        asked = Counter(thing for _ in range(300) for thing in looking.elsewhere(scene, rng))
        often = sum(asked[thing] for thing in shown) / len(shown)
        assert often > 1.3 * sum(asked[thing] for thing in load_things()) / len(load_things())


def test_names_come_with_the_places_of_their_things(looking, seen):
    """In any form, of any language; about half of them of things that are there."""
    things = defaultdict(set)
    for code in CODES:
        for names in forms_of(code).values():
            for thing, name in zip(NUMBERS, names, strict=True):
                things[f" {name}" if is_spaced(code) else name].add(thing)
    there = total = 0
    unasked = replace(looking, conversations=0, names=16)
    still = replace(unasked, simulator=Simulator({}, {}, [], GRID), perhaps=dict.fromkeys(range(SIZE), ""))
    for index in range(SIZE):
        scene, sample = seen.scene(index), still[index]
        for name, cells in zip(sample.names, sample.cells, strict=True):
            possible = [[seen.cell for seen in scene.things if seen.thing == thing] for thing in things[name]]
            assert list(cells) in possible
            total += bool(scene.things)
            there += bool(cells)
    assert 0.4 < there / total < 0.65


def test_one_of_so_many_samples_is_of_the_other_kind(looking, seen):
    other = replace(looking, seed=5)
    both = Both(looking, other, one_in=4)
    assert len(both) == len(looking)
    for number in range(9):
        wanted = looking[number] if number % 4 else other[number // 4]
        assert both[number].packed == wanted.packed


# --- batches ---


def test_cells_become_one_batch(looking):
    samples = [looking[index] for index in range(3)]
    collator = CellCollator()
    batch = collator.collate([collator.prepare(sample) for sample in samples])
    assert {name: tuple(values.shape) for name, values in batch.items()} == {
        "vision_features": (3, ROWS, WIDTH), "things": (3, ROWS), "colours": (3, ROWS)}  # fmt: skip
    assert batch["vision_features"].dtype == torch.float32
    assert torch.equal(batch["things"][1], samples[1].things)


def test_a_name_sees_the_picture_and_itself_and_no_conversation_sees_it(looking, embedded_processor):
    samples = [looking[index] for index in range(3)]
    collator = LookingCollator(embedded_processor)
    batch = collator.collate([collator.prepare(sample) for sample in samples])
    alone = PackedCollator(embedded_processor)
    plain = alone.stacked([alone.prepare(sample.packed) for sample in samples])
    names = [(row, name) for row, sample in enumerate(samples) for name in sample.names]
    assert batch["name_ends"].shape == (len(names), 2)
    assert batch["cells"].shape == (len(names), PLACES)
    assert [row.nonzero().flatten().tolist() for row in batch["cells"]] == [
        sorted(set(cells)) for sample in samples for cells in sample.cells
    ]
    tokenizer = embedded_processor.require_tokenizer()
    slots_BT = batch["input_ids"] == embedded_processor.config.image_token_id
    assert slots_BT.sum(1).tolist() == [ROWS] * 3
    for (row, end), (wanted_row, name) in zip(batch["name_ends"].tolist(), names, strict=True):
        ids = tokenizer(name, add_special_tokens=False)["input_ids"]
        start = end - len(ids) + 1
        assert row == wanted_row
        assert batch["input_ids"][row, start : end + 1].tolist() == ids
        assert (batch["labels"][row, start : end + 1] == IGNORED).all()
        visible_T = batch["visible"][row, 0, end]
        assert visible_T[slots_BT[row]].all()
        last_slot = int(slots_BT[row].nonzero().max())
        behind = [place for place in visible_T.nonzero().flatten().tolist() if place > last_slot]
        assert [place for place in behind if place >= start] == list(range(start, end + 1))
        shared = [place for place in behind if place < start]
        assert all(batch["visible"][row, 0, place:, place].sum() > len(ids) for place in shared)  # all see these
        positions = batch["position_ids"][row, start : end + 1]
        assert positions.diff().eq(1).all()
    for row, sample in enumerate(samples):
        own = alone.length(alone.prepare(sample.packed))
        assert torch.equal(batch["visible"][row, 0, :own, :own], plain["visible"][row, 0, :own, :own])
        assert not batch["visible"][row, 0, :own, own:].any()  # nothing sees the names
        assert torch.equal(batch["labels"][row, :own], plain["labels"][row, :own])


def test_a_name_stands_at_another_distance_in_another_sample(looking, embedded_processor):
    collator = LookingCollator(embedded_processor)
    starts = set()
    for index in range(4):
        prepared = collator.prepare(looking[index])
        starts |= {prepared.columns["position_ids"][end] for end in prepared.ends}
    assert len(starts) > 8
    random.seed(0)
    again = collator.prepare(looking[0])
    assert again.columns == collator.prepare(looking[0]).columns
