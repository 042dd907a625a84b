"""The commands train, evaluate and predict: arguments in, tables and files out; no method of their own.

What takes seconds to import (torch, matplotlib) is imported by the commands: `affectune --help` does not wait for it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.corpus import PARTITIONS, Corpus, Partition, Session
from pipeline.data.layout import find_layout
from pipeline.data.muse import read_corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.evaluation.corruption import FORMS, corruption
from pipeline.spec import Spec, override, read_spec
from pipeline.storage.atomic_folder import MANIFEST, MODEL, read_folder

if TYPE_CHECKING:
    from pipeline.evaluation.evaluate import Evaluation

CorpusPath = Annotated[
    Path, typer.Option("--corpus", help="Folder in a MuSe layout.", show_default=False)
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ToleranceMs = Annotated[
    float | None, typer.Option(help="Largest distance of a feature row from its label row.")
]
Model = Annotated[
    str,
    typer.Argument(
        help="Bundle folder, models:/<name>@<alias> or models:/<name>/<version>.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def add_commands(app: typer.Typer) -> None:
    """Mount the commands on the command line, whose context knows how to find a model's bundle: `obj(name) -> Path`."""
    app.command("train")(train_command)
    app.command("evaluate")(evaluate_command)
    app.command("predict")(predict_command)


def train_command(
    corpus: CorpusPath,
    out: Annotated[
        Path, typer.Option(help="The bundle, with summary.json in it.", show_default=False)
    ],
    spec: Annotated[
        Path | None, typer.Option(help="Settings (TOML); default: the built-in ones.")
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(help="Feature sets, with commas; default: all.")
    ] = None,
    targets: Annotated[str | None, typer.Option(help="Labels, with commas; default: all.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="cross_fit or in_sample (the paper's).")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Folds grouped by subject.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same bytes on a CPU.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Fits at a time, one thread each.")
    ] = 1,
    store: Annotated[
        str, typer.Option(help="Trained stages: a folder or an object-store URI.")
    ] = ".affectune/store",
    device: Device = "auto",
    tolerance_ms: ToleranceMs = None,
    as_json: AsJson = False,
) -> None:
    """Train all three stages and write the fused model.

    Example: affectune train --corpus data/c3_muse_stress --out model --workers 4
    """
    begin, cpu_begin = time.monotonic(), time.process_time()
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.evaluation.model_card import lost_to_floors, model_card
    from pipeline.fitting.progress_bar import ProgressBar
    from pipeline.fitting.worker_pool import WorkerPool
    from pipeline.storage.stage_store import StageStore
    from pipeline.train import check_trainable, num_fits, train

    chosen = override(
        read_spec(spec) if spec else Spec(), protocol=protocol, folds=folds, seed=seed
    )
    where = find_device(device)
    out = out.absolute()
    _check_out(out, store)
    read = read_corpus(
        corpus, modalities=_names(modalities), targets=_names(targets), tolerance_ms=tolerance_ms
    )
    check_trainable(read, chosen)
    console = Console(stderr=True)
    _say_warnings(read, console)
    with (
        ProgressBar(num_fits(read, chosen), console) as progress,
        WorkerPool(
            read, StageStore(store), workers=workers, device=where, on_progress=progress
        ) as pool,
    ):
        try:
            model = train(read, chosen, pool)
        except KeyboardInterrupt:
            raise AffectuneError(
                "Interrupted. What is trained is in the store: run the same command to go on."
            ) from None
    evaluation = evaluate(model, read, "devel", device=where)
    warnings = lost_to_floors(evaluation)
    summary = evaluation.to_json(str(out)) | {
        "trials": len(pool.trained) + pool.hits,
        "epochs_trained": sum(len(stage.history) for stage in pool.trained),
        "wall_s": round(time.monotonic() - begin, 3),
        "cpu_s": round(
            time.process_time() - cpu_begin + sum(s.cpu_s for s in pool.trained if workers > 1), 3
        ),
        "store_hits": pool.hits,
        "out_of_fold": model.out_of_fold,
    }
    text = json.dumps(summary, indent=1)
    model.save(
        out, card=model_card(model, evaluation, warnings), others={"summary.json": text.encode()}
    )
    if as_json:
        typer.echo(text)
        return
    _print_evaluation(evaluation)
    for warning in warnings:
        console.print(f"[yellow]Note:[/] {warning}")
    Console().print(
        f"{summary['trials']} fits ({pool.hits} from the store), {summary['wall_s']:.0f} s. Written: {out}",
        soft_wrap=True,
    )


def evaluate_command(
    context: typer.Context,
    model: Model,
    corpus: CorpusPath,
    partition: Annotated[str, typer.Option(help="train, devel or test.")] = "devel",
    corrupt: Annotated[
        list[str] | None, typer.Option(help=f"Spoil a modality first: {FORMS}. May be repeated.")
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the pictures; default: beside the model.", show_default=False
        ),
    ] = None,
    device: Device = "auto",
    tolerance_ms: ToleranceMs = None,
    as_json: AsJson = False,
) -> None:
    """Compare a model's predictions with the labels of a partition, and draw them.

    Example: affectune evaluate model --corpus data/c3_muse_stress --corrupt voice=noise:1.0
    """
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.evaluation.plots import write_plots
    from pipeline.model.fused_model import FusedModel

    where = find_device(device)
    part = _partition(partition)
    bundle: Path = context.obj(model)
    loaded = FusedModel.load(bundle)
    scales = {modality: loaded.auto_encoders[modality][0].scale for modality in loaded.modalities}
    spoil = [corruption(text, scales) for text in corrupt or []]
    read = read_corpus(
        corpus, modalities=loaded.modalities, targets=loaded.targets, tolerance_ms=tolerance_ms
    )

    def spoiled(session: Session) -> Session:
        for apply in spoil:
            session = apply(session)
        return session

    evaluation = evaluate(loaded, read, part, corrupt=spoiled, device=where)
    suffix = "".join(f"-{text.replace('=', '-').replace(':', '-')}" for text in corrupt or [])
    folder = plots or bundle.resolve().with_name(f"{bundle.resolve().name}-{part}{suffix}")
    written = write_plots(evaluation, folder)
    if as_json:
        typer.echo(
            json.dumps(
                evaluation.to_json(model) | ({"corrupt": corrupt} if corrupt else {}), indent=1
            )
        )
        return
    _print_evaluation(evaluation)
    if part == "train":
        Console(stderr=True).print(
            "[yellow]Note:[/] the model learned from these sessions: the scores say nothing of new ones."
        )
    Console().print(f"Pictures: {', '.join(str(path) for path in written)}", soft_wrap=True)


def predict_command(
    context: typer.Context,
    model: Model,
    corpus: CorpusPath,
    out: Annotated[Path, typer.Option(help="Gets <target>/<session>.csv.", show_default=False)],
    partition: Annotated[str, typer.Option(help="train, devel or test.")] = "test",
    device: Device = "auto",
    tolerance_ms: ToleranceMs = None,
) -> None:
    """Write a partition's predictions in the challenge's format: timestamp,value,segment_id.

    Example: affectune predict model --corpus data/c3_muse_stress --partition test --out predictions
    """
    from pipeline.evaluation.evaluate import check_fits
    from pipeline.model.fused_model import FusedModel

    where = find_device(device)
    part = _partition(partition)
    loaded = FusedModel.load(context.obj(model))
    known = [
        target
        for target in loaded.targets
        if target in find_layout(corpus, loaded.modalities, None).labels
    ]
    read = read_corpus(
        corpus, modalities=loaded.modalities, targets=known, tolerance_ms=tolerance_ms
    )
    check_fits(loaded, read)
    sessions = read.partition(part)
    if not sessions:
        raise InputError(f"Corpus {read.name!r} has no {part} sessions.")
    predictions = loaded.predict_sessions(sessions, device=where)
    for target in loaded.targets:
        _make_folder(out / target)
        for session, prediction in zip(sessions, predictions, strict=True):
            rows = zip(
                session.timestamps_ms, prediction.values[target], session.segment_ids, strict=True
            )
            lines = [
                "timestamp,value,segment_id",
                *(f"{time_ms},{value:.6f},{segment}" for time_ms, value, segment in rows),
            ]
            _write(out / target / f"{session.session_id}.csv", "\n".join(lines) + "\n")
    Console().print(
        f"{len(sessions)} sessions of {part}, {len(loaded.targets)} targets: {out}", soft_wrap=True
    )


def find_device(name: str) -> str:
    """The device to compute on.

    Raises:
        InputError: an unknown name, or no CUDA device where one was asked for.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise InputError(f"--device is {name!r}; it must be auto, cpu or cuda.")
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device. Use --device cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _partition(name: str) -> Partition:
    for partition in PARTITIONS:
        if name == partition:
            return partition
    raise InputError(f"--partition is {name!r}; it must be one of {', '.join(PARTITIONS)}.")


def _names(text: str | None) -> list[str] | None:
    """A comma-separated option as names; None where it was not given."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"Cannot read the list {text!r}: write different names, with commas between them."
        )
    return names


def _check_out(out: Path, store: str) -> None:
    """Refuse to replace what is not a bundle, or what could not be written, before anything is trained."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out '{out}' is a file. Choose another folder.")
    if out.is_dir() and any(out.iterdir()):
        try:
            known = set(read_folder(out))
        except InputError:
            known = set()
        foreign = sorted({path.name for path in out.iterdir()} - known - {MANIFEST})
        if MODEL not in known or foreign:
            what = f"it holds {foreign[0]!r}, too" if MODEL in known else "it is not a model bundle"
            raise InputError(
                f"--out '{out}' would be replaced, but {what}. Choose another folder, or remove it."
            )
    if "://" not in store and Path(store).absolute().is_relative_to(out):
        raise InputError(
            f"--store '{store}' lies in --out '{out}', which is replaced. Choose another --store."
        )
    place = next(folder for folder in out.parents if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise InputError(
            f"--out '{out}' cannot be written: '{place}' takes no folder. Choose another one."
        )


def _say_warnings(corpus: Corpus, console: Console) -> None:
    kinds: dict[str, int] = {}
    for finding in corpus.findings:
        if finding.level == "warning":
            kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
    if kinds:
        said = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        console.print(
            f"[yellow]Note:[/] the corpus has warnings: {said}. See `affectune corpus check`.",
            soft_wrap=True,
        )


def _print_evaluation(evaluation: Evaluation) -> None:
    from pipeline.evaluation.evaluate import score_table

    console = Console()
    for target, rows in score_table(evaluation).items():
        found = evaluation.targets[target]
        table = Table(
            title=f"{target} on {evaluation.partition}: {found.frames} frames of {found.sessions} sessions, "
            f"{found.subjects} subjects",
            caption=f"Mean over sessions {found.session_mean_ccc:.3f}, undefined in {found.undefined_sessions}. "
            "rho: rank correlation of difficulty with absolute error.",
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE,
            pad_edge=False,
        )
        for heading in ("prediction", "CCC [95% interval]", "fusion minus it", "rho"):
            table.add_column(heading, no_wrap=True)
        for name, score, gap in rows:
            rho = found.difficulty_spearman.get(name)
            table.add_row(name, score, gap, "" if rho is None or np.isnan(rho) else f"{rho:+.2f}")
        console.print(table)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AffectuneError(
            f"Cannot make the folder '{folder}': {error.strerror}. Choose another --out."
        ) from error


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise AffectuneError(f"Cannot write '{path}': {error.strerror}.") from error
