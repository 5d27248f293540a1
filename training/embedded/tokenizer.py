"""A small byte-level BPE with Cohere's control tokens, trained on what is asked and said in ten languages."""

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


def train_tokenizer(vocab_size: int, texts: Iterable[str] | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocab_size` entries, from `texts` or what is asked and said; any UTF-8 text round-trips in
    NFC."""
    if texts is None:
        from training.emoji_vqa.questions import sentences as about_drawings
        from training.photo_vqa.texts import sentences

        texts = chain.from_iterable(chain(sentences(code), about_drawings(code)) for code in CODES)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(WORDS, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<PAD>",
        unk_token="<UNK>",
        bos_token="<BOS_TOKEN>",
        eos_token="<|END_OF_TURN_TOKEN|>",
    )
