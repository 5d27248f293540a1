# The one list of Maya's public names: editors read it, and `__init__.py` loads by it.
from .answering.options import GenerationOptions as GenerationOptions
from .answering.session import ChatSession as ChatSession
from .answering.session import load_best as load_best
from .answering.session import load_session as load_session
from .errors import MayaError as MayaError
from .languages import LANGUAGES as LANGUAGES
from .languages import Language as Language
from .learning.conversation_files import ConversationFiles as ConversationFiles
from .learning.data import ConversationCollator as ConversationCollator
from .learning.objective import AnswerObjective as AnswerObjective
from .learning.train import TrainConfig as TrainConfig
from .learning.train import train as train
from .model.config import MayaConfig as MayaConfig
from .model.images import open_image as open_image
from .model.maya import MayaForConditionalGeneration as MayaForConditionalGeneration
from .model.processor import MayaProcessor as MayaProcessor
from .model.prompt import Message as Message
from .weights.checkpoint import assemble as assemble
from .weights.checkpoint import load_model as load_model
from .weights.checkpoint import load_processor as load_processor
from .weights.checkpoint import save_model as save_model
from .weights.export import convert as convert
from .weights.export import export_llava as export_llava
from .weights.export import quantize_checkpoint as quantize_checkpoint
from .weights.gguf_export import export_gguf as export_gguf

__all__: list[str]
