"""A small byte-level BPE with Cohere's control tokens, trained on what is asked and said in ten languages."""

import json
from collections.abc import Iterable
from itertools import chain

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from maya_core.languages import CODES

# Cohere's first eight ids, its turn tokens, and the image slot.
CONTROL_TOKENS = (
    "<PAD>",
    "<UNK>",
    "<CLS>",
    "<SEP>",
    "<MASK_TOKEN>",
    "<BOS_TOKEN>",
    "<EOS_TOKEN>",
    "<EOP_TOKEN>",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<image>",
)
# Words with their combining marks: without \p{M}, Hindi and Bengali words would be cut at every vowel sign. Arabic writes
# "and" into the next word: with it in one token, each name would be another one at the end of a list.
WORDS = Regex(r" و(?=\p{L})| ?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+")
_WORDS = pre_tokenizers.Split(WORDS, behavior="isolated")
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def train_tokenizer(vocab_size: int, texts: Iterable[str] | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocab_size` entries, from `texts` or what is asked and said; any UTF-8 text round-trips in
    NFC."""
    if texts is None:
        from training.emoji_vqa.questions import sentences as about_drawings
        from training.photo_vqa.texts import sentences

        texts = chain.from_iterable(chain(sentences(code), about_drawings(code)) for code in CODES)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_WORDS, _BYTES])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_its_controls(tokenizer)


def words_in_pieces(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Words that are more than one token, what is needed most first: those of answers that are nothing but a name, a colour
    or a place; then other forms of names that begin unlike the name. What is written without spaces is no word."""
    from training.photo_vqa.texts import is_spaced, other_forms, whole_answers

    def ids(word: str) -> list[int]:
        return list(tokenizer(word, add_special_tokens=False)["input_ids"])

    spaced = [code for code in CODES if is_spaced(code)]
    words = [word for code in spaced for answer in whole_answers(code) for word in _words(answer)]
    by_thing = zip(*(other_forms(code) for code in spaced), strict=True)
    for name, form in chain.from_iterable(chain.from_iterable(by_thing)):
        pairs = zip(_words(f" {name}"), _words(f" {form}"), strict=False)
        words += [other for word, other in pairs if ids(word)[0] != ids(other)[0]]
    return [word for word in dict.fromkeys(words) if len(ids(word)) > 1]


def _words(text: str) -> list[str]:
    return [word for word, _ in _WORDS.pre_tokenize_str(text)]


def with_words(tokenizer: PreTrainedTokenizerFast, words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Words that are one token each from now on, the first of them the next id; no other word is split otherwise."""
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    model = told["model"]
    for id_, word in enumerate(words, start=len(tokenizer)):
        [(letters, _)] = _BYTES.pre_tokenize_str(word)
        model["vocab"][letters] = id_
    model["ignore_merges"] = True  # a word of the vocabulary needs no merges
    return _with_its_controls(Tokenizer.from_str(json.dumps(told)))


def _with_its_controls(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<PAD>",
        unk_token="<UNK>",
        bos_token="<BOS_TOKEN>",
        eos_token="<|END_OF_TURN_TOKEN|>",
    )
