"""The one training loop, epoch by epoch. Knows no processes and no Ray: whoever drives it decides when to stop."""

# B = batch, T = time (frames), F = input columns, O = outputs

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.metrics.ccc import ccc, ccc_loss
from pipeline.networks.sequence_regressor import SequenceRegressor
from pipeline.preprocessing.normalisation import Normalisation
from pipeline.spec import FitSpec
from pipeline.stages.stage import Epoch, StageTask, TrainedStage, pad, predict

UNDEFINED_SCORE = (
    -1.0
)  # what a search sees of an undefined CCC: finite, and no better than the worst


@dataclass(frozen=True)
class Example:
    """One session of a task: normalised inputs (frames, F), truth (frames, O), and which frames count (frames,)."""

    inputs: NDArray[np.float32]
    truth: NDArray[np.float32]
    mask: NDArray[np.bool_]


def fit(
    task: StageTask,
    corpus: Corpus,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainedStage:
    """Train until devel has not improved for `patience` epochs; keep the best epoch's weights.

    The same task on the same corpus gives the same bytes on a CPU.

    Args:
        task: what to learn.
        corpus: holds the task's sessions.
        device: "cpu" or "cuda".
        on_epoch: called after every epoch.

    Raises:
        AffectuneError: the loss is not finite, or no training frame has a label.
    """
    training = Trainer(task, corpus, device=device)
    while not training.over:
        epoch = training.step()
        if on_epoch:
            on_epoch(epoch)
    return training.solution()


class Trainer:
    """A fit that can stop after any epoch and go on in another process, to the same bytes (on a CPU).

    A fusion that starts as the mean of the predictions may stay there: then its best epoch is 0.

    Args:
        task: what to learn.
        corpus: holds the task's sessions.
        device: "cpu" or "cuda".

    Raises:
        AffectuneError: no training frame has a label.
    """

    def __init__(self, task: StageTask, corpus: Corpus, *, device: str = "cpu") -> None:
        begin = time.process_time()
        self.task, self.device = task, device
        self.scale, self.label_mean, self.label_std = _fit_scale(task, corpus)
        own = self.scale, self.label_mean, self.label_std
        self._train = [_example(task, corpus, name, *own) for name in task.train_ids]
        self._devel = [_example(task, corpus, name, *own) for name in task.devel_ids]
        if not any(example.mask.any() for example in self._train):
            raise AffectuneError(
                f"{task.name}: no training frame has both a label and features. Check the corpus."
            )
        self.output_size = self._train[0].truth.shape[1]
        with _random_numbers(device) as random:
            torch.manual_seed(task.seed)
            network = SequenceRegressor(
                task.network, self.scale.input_size, self.output_size, self.scale.difficulty_size
            )
            self._random = random()
        self._network = network.to(device)
        self._optimizer = torch.optim.Adam(
            self._network.parameters(), task.fit.learning_rate, weight_decay=task.fit.weight_decay
        )
        self.history: list[Epoch] = []
        self.best, self._best_weights = Epoch(0, 0.0, -np.inf), _weights(self._network)
        if task.features is not None and network.skip is not None:
            _start_from_mean(self._network, self.scale, self.label_mean, self.label_std)
            score = _score(self._network, self._devel, True, device)
            self.best, self._best_weights = Epoch(0, 0.0, score), _weights(self._network)
        self.cpu_s = time.process_time() - begin

    @property
    def epoch(self) -> int:
        """Epochs passed."""
        return len(self.history)

    @property
    def out_of_patience(self) -> bool:
        """Devel has not improved for so many epochs that training ends."""
        return self.epoch - self.best.epoch >= self.task.fit.patience

    @property
    def over(self) -> bool:
        """There is nothing more to train."""
        return self.out_of_patience or self.epoch >= self.task.fit.max_epochs

    def step(self) -> Epoch:
        """Train one epoch.

        Raises:
            AffectuneError: the loss or its gradient is not finite.
        """
        begin = time.process_time()
        with _random_numbers(self.device, self._random) as random:
            loss = _train_epoch(
                self._network, self._optimizer, self._train, self.task, self.epoch + 1, self.device
            )
            self._random = random()
        score = _score(self._network, self._devel, bool(self.task.target), self.device)
        self.history.append(Epoch(self.epoch + 1, loss, score))
        if score > self.best.score:
            self.best, self._best_weights = self.history[-1], _weights(self._network)
        self.cpu_s += time.process_time() - begin
        return self.history[-1]

    def solution(self) -> TrainedStage:
        """What was learned so far: the best epoch's weights."""
        return TrainedStage(
            stage=self.task.stage,
            name=self.task.name,
            key=self.task.key,
            network=self.task.network,
            fit=self.task.fit,
            seed=self.task.seed,
            scale=self.scale,
            output_size=self.output_size,
            label_mean=self.label_mean,
            label_std=self.label_std,
            best_epoch=self.best.epoch,
            score=self.best.score,
            history=tuple(self.history),
            cpu_s=self.cpu_s,
            weights=self._best_weights,
        )

    def checkpoint(self) -> dict[str, bytes]:
        """All that `resume` needs, as files: JSON and safetensors, no pickle."""
        optimizer = {
            f"optimizer/{place}/{name}": tensor
            for place, found in self._optimizer.state_dict()["state"].items()
            for name, tensor in found.items()
        }
        weights = {f"network/{name}": tensor for name, tensor in _weights(self._network).items()}
        best = {f"best/{name}": tensor for name, tensor in self._best_weights.items()}
        arrays = {**self._random, **optimizer, **weights, **best}
        passed = {
            "key": self.task.key,
            "history": [list(asdict(epoch).values()) for epoch in self.history],
            "best": list(asdict(self.best).values()),
            "cpu_s": self.cpu_s,
        }
        return {
            "training.json": json.dumps(passed).encode(),
            "training.safetensors": safetensors.torch.save(
                {name: tensor.detach().cpu().contiguous() for name, tensor in arrays.items()}
            ),
        }

    def resume(self, files: Mapping[str, bytes]) -> None:
        """Go on where a checkpoint of the same task ends.

        Raises:
            ValueError, KeyError: it is of another task, or damaged.
        """
        passed = json.loads(files["training.json"])
        if passed["key"] != self.task.key:
            raise ValueError(f"a checkpoint of {passed['key']}, not of {self.task.key}")
        arrays = safetensors.torch.load(files["training.safetensors"])
        self._network.load_state_dict(_under("network/", arrays))
        self._best_weights = _under("best/", arrays)
        state: dict[int, dict[str, Tensor]] = {}
        for path, tensor in _under("optimizer/", arrays).items():
            place, name = path.split("/")
            state.setdefault(int(place), {})[name] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
        self._random = {
            name: tensor for name, tensor in arrays.items() if name.startswith("random/")
        }
        self.history = [Epoch(*epoch) for epoch in passed["history"]]
        self.best, self.cpu_s = Epoch(*passed["best"]), passed["cpu_s"]


@contextlib.contextmanager
def _random_numbers(
    device: str, state: Mapping[str, Tensor] | None = None
) -> Iterator[Callable[[], dict[str, Tensor]]]:
    """torch's random numbers, from a state on, apart from the caller's; gives a function that tells their state."""
    cuda = [torch.cuda.current_device()] if device == "cuda" else []

    def tell() -> dict[str, Tensor]:
        found = {"random/cpu": torch.get_rng_state()}
        return found | ({"random/cuda": torch.cuda.get_rng_state()} if cuda else {})

    with torch.random.fork_rng(devices=cuda):
        if state is not None:
            torch.set_rng_state(state["random/cpu"])
            if cuda:
                torch.cuda.set_rng_state(state["random/cuda"])
        yield tell


def _under(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name[len(prefix) :]: tensor for name, tensor in arrays.items() if name.startswith(prefix)
    }


def windows(num_frames: int, window_frames: int, hop_frames: int) -> list[tuple[int, int]]:
    """Cut a session into [start, stop) windows; the last one ends with the session."""
    last = max(num_frames - window_frames, 0)
    starts = [*range(0, last, hop_frames), last]
    return [(start, min(start + window_frames, num_frames)) for start in starts]


def _fit_scale(task: StageTask, corpus: Corpus) -> tuple[Normalisation, float, float]:
    """Scales of inputs and label, from the task's own training sessions alone."""
    sessions = [corpus.session(name) for name in task.train_ids]
    scale = Normalisation.fit(
        [task.values(session) for session in sessions],
        difficulty_size=task.difficulty_size,
        normalisation=task.normalisation,
        difficulty_scale=task.difficulty_scale,
    )
    if not task.target:
        return scale, 0.0, 1.0
    labels = np.concatenate([session.labels[task.target] for session in sessions])
    labels = labels[np.isfinite(labels)]
    if not labels.size:
        raise AffectuneError(f"{task.name}: no training session has a label for {task.target!r}.")
    return scale, float(labels.mean()), float(labels.std()) if np.ptp(labels) > 0 else 1.0


def _start_from_mean(
    network: SequenceRegressor, scale: Normalisation, label_mean: float, label_std: float
) -> None:
    """Begin a fusion as the mean of the predictions: its inputs are their z-scores, its output the label's."""
    predictions = slice(0, len(scale.mean) - scale.difficulty_size)
    mean, std = scale.mean[predictions], scale.std[predictions]
    std = np.where(np.isfinite(std), std, 0.0)
    network.start_from(
        torch.from_numpy(std / (label_std * len(std))), float(mean.mean() - label_mean) / label_std
    )


def _example(
    task: StageTask,
    corpus: Corpus,
    session_id: str,
    scale: Normalisation,
    label_mean: float,
    label_std: float,
) -> Example:
    session = corpus.session(session_id)
    inputs = scale.apply(task.values(session))
    if not task.target:
        return Example(inputs, inputs, session.present[task.modality])
    label = (session.labels[task.target] - label_mean) / label_std
    # Without its feature set a session has no prediction to judge: it neither teaches nor stops.
    known = np.isfinite(label) & (session.present[task.modality].any() if task.modality else True)
    return Example(inputs, label[:, None].astype(np.float32), known)


def _train_epoch(
    network: SequenceRegressor,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    task: StageTask,
    epoch: int,
    device: str,
) -> float:
    """One pass over the shuffled windows; the mean loss of its batches."""
    network.train()
    cut = [
        (example, start, stop)
        for example in examples
        for start, stop in windows(len(example.inputs), task.fit.window_frames, task.fit.hop_frames)
        if example.mask[start:stop].any()
    ]
    order = np.random.default_rng([task.seed, epoch]).permutation(len(cut))
    losses = []
    for first in range(0, len(order), task.fit.batch_size):
        batch = [cut[index] for index in order[first : first + task.fit.batch_size]]
        x_BTF, lengths_B = pad([example.inputs[start:stop] for example, start, stop in batch])
        truth_BTO, _ = pad([example.truth[start:stop] for example, start, stop in batch])
        mask_BT1, _ = pad(
            [example.mask[start:stop, None].astype(np.float32) for example, start, stop in batch]
        )
        if task.fit.input_noise:
            x_BTF = x_BTF + task.fit.input_noise * torch.randn_like(x_BTF)
        y_BTO = network(x_BTF.to(device), lengths_B)
        loss = masked_loss(
            truth_BTO.to(device), y_BTO, mask_BT1[..., 0].bool().to(device), task.fit
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), task.fit.gradient_clip)
        if not torch.isfinite(loss + norm):
            raise AffectuneError(
                f"{task.name}: the loss or its gradient is not finite in epoch {epoch}. "
                "Lower learning_rate or gradient_clip."
            )
        optimizer.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses))


def masked_loss(truth_BTO: Tensor, y_BTO: Tensor, mask_BT: Tensor, spec: FitSpec) -> Tensor:
    """The spec's loss over the unmasked frames; a scalar."""
    if spec.loss == "ccc":
        return ccc_loss(truth_BTO[..., 0], y_BTO[..., 0], mask_BT, over=spec.ccc_over)
    error_BTO = torch.where(
        mask_BT[..., None], y_BTO - torch.where(mask_BT[..., None], truth_BTO, 0.0), 0.0
    )
    error_BTO = error_BTO.square() if spec.loss == "mse" else error_BTO.abs()
    return error_BTO.sum() / (mask_BT.sum().clamp_min(1) * truth_BTO.shape[2])


def _score(
    network: SequenceRegressor, examples: Sequence[Example], supervised: bool, device: str
) -> float:
    """Devel CCC over all frames, or minus the mean squared reconstruction error; always finite."""
    network.eval()
    outputs = predict(network, [example.inputs for example in examples], device)
    truth = np.concatenate([example.truth[example.mask] for example in examples])
    output = np.concatenate(
        [output[example.mask] for output, example in zip(outputs, examples, strict=True)]
    )
    if not supervised:
        score = (
            -float(np.mean((output - truth) ** 2, dtype=np.float64))
            if truth.size
            else UNDEFINED_SCORE
        )
    else:
        score = ccc(truth[:, 0], output[:, 0])
    return score if np.isfinite(score) else UNDEFINED_SCORE


def _weights(network: SequenceRegressor) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
