"""The one training loop, epoch by epoch. Knows no processes, no store and no Ray."""

# B = batch, T = time (frames), F = input columns, O = outputs

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.fitting.corrupted_examples import CorruptedExamples
from pipeline.fitting.examples import Example, ExampleScaling, training_batches
from pipeline.metrics.ccc import ccc, ccc_loss
from pipeline.networks.modality_gate import ModalityGate
from pipeline.networks.sequence_regressor import keep_outputs
from pipeline.preprocessing.timing import Timing
from pipeline.spec import FitSpec
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import (
    Epoch,
    Network,
    TrainedStage,
    new_network,
    pad,
    predict_sequences,
)

UNDEFINED_SCORE = -1.0
"""What a search sees of an undefined CCC: finite, and no better than the worst."""
CHECKPOINT_FILE, CHECKPOINT_ARRAYS = "checkpoint.json", "checkpoint.safetensors"


def fit(
    problem: SupervisedProblem,
    corpus: Corpus,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainedStage:
    """Train until devel has not improved for `patience` epochs; keep the best epoch's weights.

    The same problem on the same corpus gives the same bytes on a CPU.

    Args:
        problem: what to learn.
        corpus: holds the problem's sessions.
        device: "cpu" or "cuda".
        on_epoch: called after every epoch.

    Raises:
        AffectuneError: the loss is not finite, or no training frame has a label.
    """
    trainer = Trainer(problem, corpus, device=device)
    while not trainer.is_done:
        epoch = trainer.train_epoch()
        if on_epoch:
            on_epoch(epoch)
    return trainer.trained_stage()


class Trainer:
    """Trains a network on a problem; it can stop after any epoch and go on in another process.

    On a CPU an interrupted fit ends with the same bytes. A fusion that starts as the mean of the
    predictions may stay there: then its best epoch is 0.

    Args:
        problem: what to learn.
        corpus: holds the problem's sessions.
        device: "cpu" or "cuda".

    Attributes:
        history: every epoch so far.
        best: the epoch with the highest score.
        cpu_s: processor seconds spent.

    Raises:
        AffectuneError: no training frame has a label.
    """

    def __init__(self, problem: SupervisedProblem, corpus: Corpus, *, device: str = "cpu") -> None:
        begin = time.process_time()
        self.problem, self.device = problem, device

        self._scaling = scaling = ExampleScaling.fit(problem, corpus)
        train = [corpus.session(session_id) for session_id in problem.train_ids]
        devel = [corpus.session(session_id) for session_id in problem.devel_ids]
        train_examples = [scaling.training_example(problem, session) for session in train]
        devel_examples = [scaling.scored_example(problem, session) for session in devel]
        self._train = CorruptedExamples(problem, scaling, train, train_examples)
        self._devel = CorruptedExamples(problem, scaling, devel, devel_examples)
        if not any(example.scored.any() for example in self._train.clean):
            raise AffectuneError(
                f"{problem.name}: no training frame has both a label and features. "
                "Check the corpus."
            )
        self._output_size: int = self._train.clean[0].truth.shape[1]

        self._random_state: dict[str, Tensor] = {}
        self._network = self._new_network().to(device)
        self._optimizer = torch.optim.Adam(
            self._network.parameters(),
            problem.fit.learning_rate,
            weight_decay=problem.fit.weight_decay,
        )

        self.history: list[Epoch] = []
        self.best = Epoch(0, 0.0, -np.inf)
        if problem.num_modalities and _start_from_mean(self._network, problem, scaling):
            self.best = Epoch(0, 0.0, self._score())
        self._best_weights = _copy_weights(self._network)
        self.cpu_s = time.process_time() - begin

    @property
    def epoch(self) -> int:
        """Return how many epochs have passed."""
        return len(self.history)

    @property
    def is_out_of_patience(self) -> bool:
        """Return whether devel has not improved for so many epochs that training ends."""
        return self.epoch - self.best.epoch >= self.problem.fit.patience

    @property
    def is_done(self) -> bool:
        """Return whether there is nothing more to train."""
        return self.is_out_of_patience or self.epoch >= self.problem.fit.max_epochs

    def train_epoch(self) -> Epoch:
        """Train one epoch, and score it on devel.

        Raises:
            AffectuneError: the loss or its gradient is not finite.
        """
        begin = time.process_time()
        number = self.epoch + 1

        with _random_numbers(self.device, self._random_state) as get_state:
            loss = self._train_batches(number)
            self._random_state = get_state()

        epoch = Epoch(number, loss, self._score())
        self.history.append(epoch)
        if epoch.score > self.best.score:
            self.best, self._best_weights = epoch, _copy_weights(self._network)

        self.cpu_s += time.process_time() - begin
        return epoch

    def trained_stage(self) -> TrainedStage:
        """Return what was learned so far: the best epoch's weights."""
        problem = self.problem
        return TrainedStage(
            stage=problem.task.stage,
            name=problem.name,
            key=problem.key,
            network=problem.network,
            fit=problem.fit,
            seed=problem.seed,
            normalisation=self._scaling.normalisation,
            output_size=self._num_kept_outputs,
            label_mean=self._scaling.label_mean,
            label_std=self._scaling.label_std,
            best_epoch=self.best.epoch,
            score=self.best.score,
            history=tuple(self.history),
            cpu_s=self.cpu_s,
            weights=keep_outputs(self._best_weights, self._num_kept_outputs),
            num_modalities=problem.num_modalities,
            num_other_predictions=problem.num_other_predictions,
            timing=problem.timing,
        )

    @property
    def _num_kept_outputs(self) -> int:
        """Return how many outputs predict: what was learned beside the target does not."""
        return self._output_size - len(self.problem.other_targets)

    def checkpoint(self) -> dict[str, bytes]:
        """Return all that `resume` needs, as files: JSON and safetensors, no pickle."""
        arrays = dict(self._random_state)
        for place, state in self._optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer/{place}/{name}": tensor for name, tensor in state.items()}
        for name, tensor in self._network.state_dict().items():
            arrays[f"network/{name}"] = tensor
        for name, tensor in self._best_weights.items():
            arrays[f"best/{name}"] = tensor

        record = {
            "key": self.problem.key,
            "history": [astuple(epoch) for epoch in self.history],
            "best": astuple(self.best),
            "cpu_s": self.cpu_s,
        }
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in arrays.items()}
        return {
            CHECKPOINT_FILE: json.dumps(record).encode(),
            CHECKPOINT_ARRAYS: safetensors.torch.save(plain),
        }

    def resume(self, files: Mapping[str, bytes]) -> None:
        """Go on where a checkpoint of the same problem ends.

        Raises:
            ValueError, KeyError: it is of another problem, or damaged.
        """
        record = json.loads(files[CHECKPOINT_FILE])
        if record["key"] != self.problem.key:
            raise ValueError(f"a checkpoint of {record['key']}, not of {self.problem.key}")
        arrays = safetensors.torch.load(files[CHECKPOINT_ARRAYS])

        self._network.load_state_dict(_with_prefix("network/", arrays))
        self._best_weights = _with_prefix("best/", arrays)
        self._random_state = {name: t for name, t in arrays.items() if name.startswith("random/")}

        state: dict[int, dict[str, Tensor]] = {}
        for path, tensor in _with_prefix("optimizer/", arrays).items():
            place, name = path.split("/")
            state.setdefault(int(place), {})[name] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})

        self.history = [Epoch(*epoch) for epoch in record["history"]]
        self.best = Epoch(*record["best"])
        self.cpu_s = record["cpu_s"]

    def _score(self) -> float:
        """Score the network on devel; a fusion half of it on devel's corrupted copies."""
        score = self._score_of(self._devel.clean)
        copies = self._devel.every_kind()
        return (score + self._score_of(copies)) / 2 if copies else score

    def _score_of(self, examples: Sequence[Example]) -> float:
        return devel_score(
            self._network,
            examples,
            self.problem.timing,
            has_target=bool(self.problem.task.target),
            device=self.device,
        )

    def _new_network(self) -> Network:
        """Initialise the network from the problem's seed; keep the state of random numbers."""
        problem = self.problem
        with _random_numbers(self.device) as get_state:
            torch.manual_seed(problem.seed)
            network = new_network(
                problem.network,
                self._scaling.normalisation,
                self._output_size,
                problem.num_modalities,
            )
            self._random_state = get_state()
        return network

    def _train_batches(self, epoch: int) -> float:
        """Train on every window once; return the mean loss of the batches."""
        problem, network = self.problem, self._network
        network.train()
        losses = []

        examples = self._train.epoch(problem.seed, epoch)
        for batch in training_batches(examples, problem.fit, problem.seed, epoch):
            num_others = len(problem.other_targets)
            loss = _batch_loss(network, batch, problem.fit, self.device, num_others)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]

            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), problem.fit.gradient_clip)
            if not torch.isfinite(loss + norm):
                raise AffectuneError(
                    f"{problem.name}: the loss or its gradient is not finite in epoch {epoch}. "
                    "Lower learning_rate or gradient_clip."
                )
            self._optimizer.step()
            losses.append(float(loss.detach()))

        return float(np.mean(losses))


def devel_score(
    network: Network,
    examples: Sequence[Example],
    timing: Timing,
    *,
    has_target: bool,
    device: str,
) -> float:
    """Return the CCC over all devel frames, or minus the mean squared error; always finite.

    What is learned beside the target counts for nothing here.

    Args:
        network: what is scored.
        examples: the devel sessions, with their labels as they are.
        timing: how the network sees time.
        has_target: whether it predicts a target; an auto-encoder rebuilds its inputs.
        device: "cpu" or "cuda".
    """
    network.eval()
    inputs = [example.inputs for example in examples]
    outputs = [
        timing.session_outputs(output, len(example.truth))
        for output, example in zip(
            predict_sequences(network, inputs, device), examples, strict=True
        )
    ]

    masks = [example.scored for example in examples]
    truth = np.concatenate([example.truth[example.scored] for example in examples])
    output = np.concatenate([y[mask] for y, mask in zip(outputs, masks, strict=True)])

    if has_target:
        score = ccc(truth[:, 0], output[:, 0])
    elif truth.size:
        score = -float(np.mean((output - truth) ** 2, dtype=np.float64))
    else:
        score = UNDEFINED_SCORE
    return score if np.isfinite(score) else UNDEFINED_SCORE


def masked_loss(truth_BTO: Tensor, y_BTO: Tensor, mask_BT: Tensor, spec: FitSpec) -> Tensor:
    """Return the spec's loss over the unmasked frames, a scalar."""
    if spec.loss == "ccc":
        return ccc_loss(truth_BTO[..., 0], y_BTO[..., 0], mask_BT, over=spec.ccc_over)

    mask_BT1 = mask_BT[..., None]
    error_BTO = torch.where(mask_BT1, y_BTO - torch.where(mask_BT1, truth_BTO, 0.0), 0.0)
    distance_BTO = error_BTO.square() if spec.loss == "mse" else error_BTO.abs()
    return distance_BTO.sum() / (mask_BT.sum().clamp_min(1) * truth_BTO.shape[2])


def _batch_loss(
    network: Network,
    batch: Sequence[Example],
    spec: FitSpec,
    device: str,
    num_others: int,
) -> Tensor:
    """Return the loss of a batch; with `num_others` further targets the mean over all of them."""
    x_BTF, lengths_B = pad([example.inputs for example in batch])
    truth_BTO, _ = pad([example.truth for example in batch])
    mask_BT1, _ = pad([example.mask[:, None].astype(np.float32) for example in batch])

    if spec.input_noise:
        x_BTF = x_BTF + spec.input_noise * torch.randn_like(x_BTF)
    # A gate's weights stand after its output.
    y_BTO = network(x_BTF.to(device), lengths_B)[..., : truth_BTO.shape[2]]
    mask_BT = mask_BT1[..., 0].bool().to(device)
    truth_BTO = truth_BTO.to(device)
    if not num_others:
        return masked_loss(truth_BTO, y_BTO, mask_BT, spec)

    losses = []
    for output in range(truth_BTO.shape[2]):
        truth_BT1, y_BT1 = (tensor[..., output : output + 1] for tensor in (truth_BTO, y_BTO))
        is_known_BT = mask_BT & truth_BT1[..., 0].isfinite()
        losses.append(masked_loss(truth_BT1, y_BT1, is_known_BT, spec))
    return torch.stack(losses).mean()


def _start_from_mean(network: Network, problem: SupervisedProblem, scaling: ExampleScaling) -> bool:
    """Begin a fusion as the mean of the predictions: its inputs and its output are z-scores.

    Returns:
        Whether it can: a recurrent fusion without a linear path begins at random.
    """
    size, normalisation = problem.num_modalities, scaling.normalisation
    mean, std = normalisation.mean[:size], normalisation.std[:size]
    std = np.where(np.isfinite(std), std, 0.0) / scaling.label_std
    mean = (mean - scaling.label_mean) / scaling.label_std

    if isinstance(network, ModalityGate):
        network.start_from_mean(torch.from_numpy(std), torch.from_numpy(mean))
        return True
    if network.skip is None:
        return False

    weight_F = np.zeros(network.skip.in_features)
    weight_F[:size] = std / size
    network.start_from(torch.from_numpy(weight_F), float(mean.mean()))
    return True


@contextlib.contextmanager
def _random_numbers(
    device: str, state: Mapping[str, Tensor] | None = None
) -> Iterator[Callable[[], dict[str, Tensor]]]:
    """Give torch a state of random numbers, apart from the caller's.

    Yields:
        A function that returns the state as it is then.
    """
    cuda = [torch.cuda.current_device()] if device == "cuda" else []

    def get_state() -> dict[str, Tensor]:
        state = {"random/cpu": torch.get_rng_state()}
        if cuda:
            state["random/cuda"] = torch.cuda.get_rng_state()
        return state

    with torch.random.fork_rng(devices=cuda):
        if state is not None:
            torch.set_rng_state(state["random/cpu"])
            if cuda:
                torch.cuda.set_rng_state(state["random/cuda"])
        yield get_state


def _with_prefix(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the arrays whose names begin so, without the prefix."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in arrays.items()
        if name.startswith(prefix)
    }


def _copy_weights(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
