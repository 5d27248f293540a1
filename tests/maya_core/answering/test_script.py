"""A small model keeps to the letters of the language that it answers in."""

import pytest
from transformers.convert_slow_tokenizer import bytes_to_unicode

from maya_core.answering.language import answer_language
from maya_core.answering.options import GenerationOptions
from maya_core.answering.script import PART_OF_A_CHARACTER, Scripts
from maya_core.assets import asset_path
from maya_core.languages import CODES
from maya_core.model.prompt import Message, answered_in
from maya_core.weights.checkpoint import load_config, load_processor, save_model
from tests.tiny import picture
from training.photo_vqa.phrases import load_phrases
from training.photo_vqa.things import load_names

QUESTIONS = {
    "en": "What is in this picture?", "zh": "这张图片里有什么？", "fr": "Qu'est-ce que c'est, sur la photo ?",
    "es": "¿Qué es esto?", "ru": "Что это такое?", "hi": "यह क्या है?", "ja": "これは何ですか？",
    "ar": "ما هذا الذي في الصورة؟", "bn": "এটা কী?", "ur": "یہ کیا ہے؟",
}  # fmt: skip
LONG = GenerationOptions(max_new_tokens=40)
BY_CHANCE = GenerationOptions(max_new_tokens=40, temperature=3.0, seed=0)


@pytest.fixture(scope="module")
def scripts(tokenizer):
    return Scripts(tokenizer.backend_tokenizer, 4160)


def asked(code, **fields):
    return Message(role="user", text=QUESTIONS[code], images=(picture(),), **fields)


@pytest.mark.parametrize("options", [LONG, BY_CHANCE], ids=["greedy", "by chance"])
@pytest.mark.parametrize("code", CODES)
def test_no_token_of_an_answer_has_letters_of_another_script(make, scripts, code, options):
    foreign_V = scripts.foreign(code)
    free, keeping = make(keeps_to_script=False), make(keeps_to_script=True)
    decided = answer_language(QUESTIONS[code]).asked(asked(code))
    assert decided.answer_in == code
    assert foreign_V[free.token_ids(decided, options)].any()
    for question in (decided, asked(code), QUESTIONS[code]):  # decided by who asks, or as its words plainly say
        ids = keeping.token_ids(question, options)
        assert len(ids) == 40
        assert not foreign_V[ids].any()


def test_the_language_that_was_decided_for_the_last_question_counts(make, scripts):
    session = make(keeps_to_script=True)
    for question in (answered_in(asked("fr"), "bn"), asked("fr", answer_in="bn")):
        turns = [asked("zh", answer_in="zh"), Message(role="assistant", text="狗"), question]
        for conversation in (turns, [*turns, Message(role="assistant", text="এটা", is_half=True)]):
            ids = session.token_ids(conversation, LONG)
            assert not scripts.foreign("bn")[ids].any()
            assert scripts.foreign("fr")[ids].any()


def test_no_answer_begins_inside_a_character_or_ends_before_it_began(make, scripts):
    """A part of a character says nothing, and is the likeliest now and then where the word that was wanted is foreign."""
    session = make(keeps_to_script=True)
    tokenizer = scripts.tokenizer
    parts = [token for token in range(tokenizer.get_vocab_size()) if tokenizer.decode([token]) == PART_OF_A_CHARACTER]
    beginnings = [token for token in parts if not scripts.no_first[token]]
    assert 0 < len(beginnings) < len(parts)  # those that begin a character, which words are made of
    assert scripts.no_first[list(tokenizer.get_added_tokens_decoder())].all()  # the end is one of them
    for code in CODES:
        [first, *_] = session.token_ids(asked(code), LONG)
        assert not scripts.no_first[first]
    half = [asked("bn"), Message(role="assistant", text="এটা", is_half=True)]
    assert session._no_first([[asked("bn")], half]).any(1).tolist() == [True, False]


def test_no_answer_begins_a_character_that_can_only_become_a_foreign_letter(scripts):
    """Of a letter in pieces every piece is a token without letters."""
    named = {scripts.tokenizer.id_to_token(token): token for token in range(scripts.tokenizer.get_vocab_size())}
    as_byte = bytes_to_unicode()
    are_foreign = {
        b"\xe9": {"zh": False, "ja": False, "ru": True, "hi": True, "ar": True},  # all that it begins is Chinese
        b"\xd0": {"ru": False, "zh": True, "hi": True, "en": True},  # Cyrillic
        b"\xe2": dict.fromkeys(CODES, False),  # dashes and quotation marks, too
        b"\xf0": dict.fromkeys(CODES, False),  # emoji
        b"\x9a": dict.fromkeys(CODES, False),  # goes on
    }
    for begun, foreign in are_foreign.items():
        token = named["".join(as_byte[byte] for byte in begun)]
        assert {code: bool(scripts.foreign(code)[token]) for code in foreign} == foreign


def test_words_that_say_no_language_are_answered_with_any_letters(make, scripts):
    session, free = make(keeps_to_script=True), make(keeps_to_script=False)
    assert session.token_ids("?", LONG) == free.token_ids("?", LONG)
    assert not scripts.foreign(None).any()


def test_each_of_many_conversations_keeps_to_its_own(make, scripts):
    session = make(keeps_to_script=True)
    conversations = [[asked(code)] for code in CODES]
    answers = session.answers(conversations, LONG)
    assert answers == [session.answer(conversation, LONG) for conversation in conversations]
    assert answers != make(keeps_to_script=False).answers(conversations, LONG)


@pytest.mark.parametrize("code", CODES)
def test_all_that_the_embedded_model_is_taught_to_say_can_be_said(code):
    folder = asset_path("maya-tiny")
    tokenizer = load_processor(folder).require_tokenizer()
    foreign_V = Scripts(tokenizer.backend_tokenizer, load_config(folder).text.vocab_size).foreign(code)
    assert foreign_V.float().mean() > 0.5
    phrases, names = load_phrases(code), load_names(code)
    said = [phrases.named(name) for name in names.values()]
    said += [phrases.counted(number, name) for number in (1, 2, 4) for name in names.values()]
    said += [
        phrases.sentence(one, name) for one in ("unsure", "there", "not_there", "is_not") for name in names.values()
    ]
    said += [phrases.as_answer(word) for word in (*phrases.places, *phrases.colours.values(), *phrases.kinds.values())]
    said += [phrases.said[one] for one in ("yes", "no", "unknown", "none")]
    for text in said:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert not foreign_V[ids].any(), text
    assert not foreign_V[list(tokenizer.get_added_vocab().values())].any()


def test_a_model_says_of_itself_whether_it_keeps_to_a_script(make, tmp_path):
    session = make(keeps_to_script=True)
    save_model(session.model, session.processor, tmp_path)
    assert load_config(tmp_path).keeps_to_script
