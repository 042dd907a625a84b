"""The types of the module affectune: a module alone cannot say that it is typed (PEP 561)."""

from pipeline.api.bundles import save as save
from pipeline.api.predicting import Predictions as Predictions
from pipeline.api.predicting import predict as predict
from pipeline.api.progress import Progress as Progress
from pipeline.api.reading import read_corpus as read_corpus
from pipeline.api.reading import synthesize_corpus as synthesize_corpus
from pipeline.api.scoring import Scores as Scores
from pipeline.api.scoring import evaluate as evaluate
from pipeline.api.training import train as train
from pipeline.corpus import Corpus as Corpus
from pipeline.corpus import Session as Session
from pipeline.errors import AffectuneError as AffectuneError
from pipeline.errors import InputError as InputError
from pipeline.model.fused_model import FusedModel as FusedModel
from pipeline.model.fused_model import Prediction as Prediction
from pipeline.spec import Spec as Spec
from serving.loading import load as load
from tuning.api.run_study import run_study as run_study
from tuning.api.study_result import StudyResult as StudyResult
from tuning.api.study_result import load_study as load_study

__version__: str

def main() -> None: ...
