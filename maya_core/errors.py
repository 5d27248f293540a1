"""Everything that can go wrong because of what a user gave us, one class per remedy.

    MayaError
    ├── ImageError                 a picture cannot be used
    │   ├── ImageUnreadable        not a picture, cut off, or damaged
    │   ├── ImageTypeUnsupported   a kind of file we do not open
    │   ├── ImageTooLarge          more bytes, pixels or length of side than we take
    │   ├── ImageShapeUnsupported  far longer than wide (or the reverse)
    │   └── ImageAnimated          more than one frame
    ├── PromptError                a question cannot be asked
    │   ├── PromptEmpty            no text
    │   ├── PromptTooLong          more than the model takes
    │   │   ├── TextTooLong        more text than the limit
    │   │   └── TooManyPictures    more pictures than the model has room for
    │   └── ImageCountMismatch     image slots and images disagree
    ├── CheckpointError            a model cannot be loaded
    │   ├── CheckpointNotFound     no such folder or repository, or files are missing from it
    │   ├── CheckpointMismatch     keys are missing, unexpected or misshapen
    │   ├── CheckpointUnsafe       loading it would run foreign code
    │   ├── TokenizerMissing       it came without what reads and writes words
    │   └── ModelTooLarge          there is not enough memory for it
    ├── DestinationError           a model cannot be written where it was to go
    ├── DownloadError              a model cannot be fetched
    │   ├── RepositoryGated        its licence must be accepted first
    │   ├── SignInNeeded           the hub must know who asks
    │   ├── HubUnreachable         there is no way to the hub
    │   ├── ProxyRefused           the proxy on the way there does not let it through
    │   ├── NotTheHub              something else answers in its place, as the login page of a network does
    │   ├── HubBusy                it does not answer, or refuses for now
    │   ├── DownloadDamaged        other bytes came than the hub has
    │   ├── DiskFull               there is no space for it
    │   └── DownloadInterrupted    the network or the disk gave out; trying again continues
    ├── TrainingError              a run cannot go on
    │   ├── RunBusy                another process works in its folder
    │   ├── RunDiverged            step after step without a finite gradient
    │   └── OutOfMemory            a step does not fit
    ├── DataError                  a training record cannot be used
    └── GenerationError            the model gave something that is not an answer (NaN)

The message of each is one English sentence that names the numbers and says what to do; it never holds the
user's own text, but for a file's name. The app shows its own translated sentence, chosen by class.
"""

from collections.abc import Sequence


class MayaError(Exception):
    """Base of all errors that a user can cause and mend."""


class ImageError(MayaError):
    """A picture cannot be used. name: of its file, where it is one of several."""

    name = ""

    def __str__(self) -> str:
        return f"{self.name}: {super().__str__()}" if self.name else super().__str__()


class ImageUnreadable(ImageError):
    """The file is not a picture, is cut off, or is damaged."""


class FileMissing(ImageUnreadable):
    """There is no such file."""


class ImageTypeUnsupported(ImageError):
    """The file is of a kind that is not opened."""


class ImageTooLarge(ImageError):
    """The file has more bytes, pixels or length of side than is taken."""


class ImageShapeUnsupported(ImageError):
    """The picture is far longer than wide, or the reverse."""


class ImageAnimated(ImageError):
    """The file has more than one frame."""


class PromptError(MayaError):
    """A question cannot be asked as it stands."""


class PromptEmpty(PromptError):
    """There is no text in the question."""


class PromptTooLong(PromptError):
    """The text is longer than the limit, or than the model's context."""


class TextTooLong(PromptTooLong):
    """The text is longer than any question may be."""


class TooManyPictures(PromptTooLong):
    """More pictures than the model has room for. most: how many it takes."""

    def __init__(self, message: str, most: int = 0) -> None:
        super().__init__(message)
        self.most = most


class ImageCountMismatch(PromptError):
    """Image slots in the prompt and images given disagree."""


class CheckpointError(MayaError):
    """A model cannot be loaded."""


class CheckpointNotFound(CheckpointError):
    """There is no such folder or repository, or files are missing from it."""


class CheckpointMismatch(CheckpointError):
    """Keys are missing, unexpected or of the wrong shape; the message names them."""


class CheckpointUnsafe(CheckpointError):
    """Loading it would run code that came with the weights."""


class TokenizerMissing(CheckpointError):
    """It came without the tokenizer of its language model."""


class ModelTooLarge(CheckpointError):
    """There is not enough memory for it in any form; the message names both numbers."""


class DestinationError(MayaError):
    """A model cannot be written where it was to go: something else is there, or nothing may be."""


class DownloadError(MayaError):
    """A model cannot be fetched."""


class RepositoryGated(DownloadError):
    """Licences must be accepted on their pages first. repositories: whose they are."""

    def __init__(self, message: str, repositories: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.repositories = tuple(repositories)


class SignInNeeded(DownloadError):
    """The hub must know who asks: there is no token, or one that it does not accept."""


class HubUnreachable(DownloadError):
    """There is no way to the hub: no network, no such name, or Maya was told to stay offline."""


class ProxyRefused(DownloadError):
    """The proxy that this computer's settings name does not let the request through."""


class NotTheHub(DownloadError):
    """Something answers in the hub's place, such as the login page of a hotel's network."""


class HubBusy(DownloadError):
    """The hub does not answer, or refuses for now."""


class DownloadDamaged(DownloadError):
    """Other bytes came than the hub has; they were removed."""


class DiskFull(DownloadError):
    """There is no space for the model, fetched or written; the message says how much is missing."""


class DownloadInterrupted(DownloadError):
    """The network or the disk gave out; the same command continues where it stopped."""


class TrainingError(MayaError):
    """A run cannot go on."""


class RunBusy(TrainingError):
    """Another process works in the run's folder."""


class RunDiverged(TrainingError):
    """Step after step gave no finite gradient."""


class OutOfMemory(TrainingError):
    """A step does not fit into memory."""


class DataError(MayaError):
    """A training record, or a file of them, cannot be used; the message names it. kind: what is wrong, for a program
    (`records.Kind`)."""

    def __init__(self, message: str, *, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class GenerationError(MayaError):
    """The model gave something that is not an answer, such as NaN."""


NO_MEMORY = "There is not enough free memory for this; close other programs, or take a smaller model."
_WITHOUT_MEMORY = ("allocate memory", "out of memory", "failed to map segment")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory to be had: for Python, for torch, or for a library that was to be loaded."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _WITHOUT_MEMORY)


def refused_by_the_system(error: Exception, unnamed: str) -> str:
    """One sentence for memory or a file that was not to be had; what is not the system's doing is raised again. unnamed:
    what cannot be done, where the error names no file."""
    if is_out_of_memory(error):
        return NO_MEMORY
    if not isinstance(error, OSError) or error.strerror is None:  # some library's own says more than we could
        raise error
    place = f"{error.filename} cannot be used" if error.filename else unnamed
    return f"{place} ({error.strerror}); look for free space, the name and the right to read and write."
