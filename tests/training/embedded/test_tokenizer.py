"""A tokenizer gets words without splitting any other word otherwise; the table of words gets rows for them."""

import pytest
import torch

from maya_core.languages import CODES
from training.embedded.grounding import table_of, token_ids, widened
from training.embedded.tokenizer import with_words, words_in_pieces
from training.photo_vqa.texts import is_spaced, names_as_answers, sentences

TEXT = "Овца и стул? Un lézard, two sheep; كبش وقطة, 羊が二匹。"


@pytest.fixture(scope="module")
def tokenizer(embedded_processor):
    return embedded_processor.require_tokenizer()


def test_words_become_one_token_each_and_every_other_word_stays(tokenizer):
    words = ["Овца", " lézard", " كبش"]
    more = with_words(tokenizer, words)
    assert len(more) == len(tokenizer) + len(words)
    ids = [more(word, add_special_tokens=False)["input_ids"] for word in words]
    assert ids == [[len(tokenizer) + number] for number in range(len(words))]
    assert more.decode(more(TEXT, add_special_tokens=False)["input_ids"]) == TEXT
    assert more.eos_token_id == tokenizer.eos_token_id
    assert more.get_added_vocab() == tokenizer.get_added_vocab()
    for code in CODES:
        for text in sorted(set(sentences(code)))[::40]:
            if not any(word in text for word in words):
                assert more.tokenize(text) == tokenizer.tokenize(text)


def test_words_of_answers_come_first_and_are_those_in_pieces(tokenizer):
    words = words_in_pieces(tokenizer)
    assert len(words) == len(set(words))
    assert all(len(tokenizer.tokenize(word)) > 1 for word in words)
    more = with_words(tokenizer, words)
    assert all(len(more.tokenize(word)) == 1 for word in words)
    answers = {answer for code in CODES if is_spaced(code) for answer in names_as_answers(code)}
    alone = [word for word in words if word in answers]
    assert "Овца" in alone  # begins an answer in Russian
    assert "овцы" not in {word.strip() for word in words[: len(alone)]}
    assert not any(word in names_as_answers("zh") + names_as_answers("ja") for word in words)


def test_a_new_word_begins_as_the_word_in_small_letters_behind_a_space(made):
    words = ["Овца", " lézard"]
    wider, processor = widened(made.model, made.processor, words)
    before, after = table_of(made.model), table_of(wider)
    count = len(made.processor.require_tokenizer())
    assert len(processor.require_tokenizer()) == count + 2
    assert len(after) % 64 == 0
    assert len(after) == wider.config.text.vocab_size >= count + 2
    assert made.model.config.text.vocab_size == len(before)
    pieces = token_ids(made.processor, [" овца", " lézard"])
    torch.testing.assert_close(after[count : count + 2], torch.stack([before[ids].mean(0) for ids in pieces]))
    assert torch.equal(after[:count], before[:count])
    [ids] = token_ids(made.processor, ["What is this?"])
    with torch.inference_mode():
        told = wider(input_ids=torch.tensor([ids])).logits
        assert torch.equal(told[..., :count], made.model(input_ids=torch.tensor([ids])).logits[..., :count])
    assert widened(wider, processor, []) == (wider, processor)
