"""The commands train, evaluate and predict: arguments in, tables and files out.

What takes its time to import (torch, matplotlib, pyarrow, pydantic) is imported by the commands
after their first line of output: nobody waits for it without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.api.clock import Clock
from pipeline.api.device import find_device
from pipeline.corpus import Corpus, LabelRows, Session
from pipeline.data.cli import (
    ResampleOption,
    TimeUnitOption,
    parse_names,
    parse_resampling,
    parse_time_unit,
    print_corpus_warnings,
)
from pipeline.errors import AffectuneError, InputError
from pipeline.preprocessing.corruption import FORMS
from pipeline.shipped import SPECS
from pipeline.status_line import print_status
from pipeline.storage.csv_text import csv_text
from pipeline.storage.own_files import raise_if_others, write_own_files
from pipeline.supervisor import end_in_order
from pipeline.terminal import Console, cells, note, title

if TYPE_CHECKING:
    from pipeline.evaluation.evaluate import Evaluation, TargetEvaluation
    from pipeline.model.fused_model import FusedModel, Prediction

CorpusPath = Annotated[
    Path, typer.Option("--corpus", help="Folder in a MuSe layout.", show_default=False)
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="The registry, for a MODEL that begins with models:/; default: MLFLOW_TRACKING_URI, "
        "else sqlite:///mlflow.db in this folder.",
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option(help="auto (a GPU for 256 hidden units and more), cpu or cuda.")
]
ToleranceMs = Annotated[
    float | None, typer.Option(help="Largest distance of a feature row from its label row.")
]
Model = Annotated[
    str,
    typer.Argument(
        help="Bundle folder, its URI in an object store, models:/<name>@<alias> or "
        "models:/<name>/<version>.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def add_commands(app: typer.Typer) -> None:
    """Mount the commands on the command line.

    Its context knows how to find a model's bundle: `obj(name, tracking_uri) -> Path`.
    """
    app.command("train")(train_command)
    app.command("evaluate")(evaluate_command)
    app.command("predict")(predict_command)


def train_command(
    corpus: CorpusPath,
    out: Annotated[
        Path, typer.Option(help="The bundle, with summary.json in it.", show_default=False)
    ],
    spec: Annotated[
        str | None,
        typer.Option(
            help=f"Settings: a shipped spec by its name ({', '.join(SPECS.names())}), or a TOML "
            "file; default: the built-in ones.",
            autocompletion=SPECS.complete,
        ),
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(help="Feature sets, with commas; default: all.")
    ] = None,
    targets: Annotated[str | None, typer.Option(help="Labels, with commas; default: all.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="cross_fit or in_sample (the paper's).")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Folds; with --split both, groups of people.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="What folds hold out: subject (default), stimulus, or both, with folds x "
            "stimulus_groups folds.",
            show_default=False,
        ),
    ] = None,
    inference: Annotated[
        str | None,
        typer.Option(
            help="fold_mean (the folds' models), refit (one on all of train) or distilled "
            "(one per task that learned what fold_mean predicts)."
        ),
    ] = None,
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
    resample: ResampleOption = None,
    time_unit: TimeUnitOption = None,
    as_json: AsJson = False,
) -> None:
    """Train all three stages and write the fused model.

    Example: affectune train --corpus data/c3_muse_stress --out model --workers 4
    """
    clock = Clock()
    print_status(f"Reading the corpus '{corpus}'")
    from pipeline.api.bundles import raise_if_not_replaceable
    from pipeline.api.training import find_spec, run_training, write_training
    from pipeline.data.muse import read_corpus
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.evaluation.model_card import (
        distillation_note,
        floor_warnings,
        out_of_fold_warnings,
    )
    from pipeline.fitting.progress_bar import ProgressBar
    from pipeline.spec import override
    from pipeline.stages.requirements import raise_if_untrainable
    from pipeline.storage.stage_store import StageStore, raise_if_not_writable
    from pipeline.train import num_fits

    if spec in SPECS.names():
        print_status(f"With {SPECS.describe(spec)}")
    settings = override(
        find_spec(spec or None),
        protocol=protocol,
        folds=folds,
        split=split,
        inference=inference,
        seed=seed,
    )
    torch_device = find_device(device, settings)
    out = out.resolve()
    raise_if_not_replaceable(out, store)
    raise_if_not_writable(store)

    sessions = read_corpus(
        corpus,
        modalities=parse_names(modalities),
        targets=parse_names(targets),
        tolerance_ms=tolerance_ms,
        resampling=parse_resampling(resample),
        time_unit=parse_time_unit(time_unit),
    )
    raise_if_untrainable(sessions, settings)
    StageStore(store).raise_if_unusable()
    console = Console(stderr=True)
    print_corpus_warnings(sessions, console)

    end_in_order()
    with ProgressBar(num_fits(sessions, settings), console) as progress:
        try:
            training = run_training(
                sessions,
                settings,
                store=store,
                workers=workers,
                device=torch_device,
                clock=clock,
                on_progress=progress,
            )
        except KeyboardInterrupt:
            raise AffectuneError(
                "Interrupted. What is trained is in the store: run the same command to go on."
            ) from None

    model = training.model
    evaluation = evaluate(model, sessions, "devel", device=torch_device)
    summary = write_training(training, evaluation, out)

    if as_json:
        typer.echo(json.dumps(summary, indent=1))
        return
    _print_evaluation(evaluation)
    for warning in [*floor_warnings(evaluation), *out_of_fold_warnings(model.out_of_fold)]:
        console.print(note(warning))
    if model.distillation:
        console.print(Text(distillation_note(model)))
    fits = f"{training.fits} fits ({training.store_hits} from the store)"
    written = f"{fits}, {summary['wall_s']:.0f} s. Written: {out}"
    Console().print(Text(written), soft_wrap=True)
    _print_next_steps(sessions, corpus, out, tolerance_ms)


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
    resample: ResampleOption = None,
    time_unit: TimeUnitOption = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Compare a model's predictions with the labels of a partition, and draw them.

    Example: affectune evaluate model --corpus data/c3_muse_stress --corrupt voice=noise:1.0
    """
    print_status(f"Reading the model '{model}'")
    from pipeline.api.predicting import check_partition
    from pipeline.api.reading import corpus_to_evaluate
    from pipeline.api.scoring import find_corruption
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.evaluation.plots import corruption_suffix, draw_plots, plot_files
    from pipeline.model.bundle import load_model

    part = check_partition(partition)
    bundle: Path = context.obj(model, tracking_uri)
    fused_model = load_model(bundle)
    torch_device = find_device(device, fused_model.spec)
    corruption = find_corruption(fused_model, corrupt or [])

    print_status(f"Reading the corpus '{corpus}'")
    sessions = corpus_to_evaluate(
        fused_model,
        corpus,
        tolerance_ms=tolerance_ms,
        resampling=parse_resampling(resample),
        time_unit=parse_time_unit(time_unit),
    )
    _print_columns_set_aside(sessions, Console(stderr=True))
    if plots is not None:
        raise_if_others(plots, plot_files(corrupt or []), "--plots")
    evaluation = evaluate(fused_model, sessions, part, corrupt=corruption, device=torch_device)
    beside = bundle.resolve()
    folder = plots or beside.with_name(f"{beside.name}-{part}{corruption_suffix(corrupt or [])}")
    write_own_files(folder, draw_plots(evaluation), has_name_of_its_own=plots is None)

    if as_json:
        typer.echo(json.dumps(evaluation.to_json(model), indent=1))
        return
    _print_evaluation(evaluation)
    if part == "train":
        Console(stderr=True).print(
            "[yellow]Note:[/] the model learned from these sessions: "
            "the scores say nothing of new ones."
        )
    names = sorted(plot_files(corrupt or []))
    pictures = f"Pictures: {', '.join(str(folder / name) for name in names)}"
    Console().print(Text(pictures), soft_wrap=True)


def predict_command(
    context: typer.Context,
    model: Model,
    corpus: CorpusPath,
    out: Annotated[Path, typer.Option(help="Gets <target>/<session>.csv.", show_default=False)],
    partition: Annotated[str, typer.Option(help="train, devel or test.")] = "test",
    bands: Annotated[
        bool, typer.Option("--bands", help="Add the columns low and high: the calibrated band.")
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Another folder that gets <target>/<session>.csv: how much each modality is "
            "trusted.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    tolerance_ms: ToleranceMs = None,
    resample: ResampleOption = None,
    time_unit: TimeUnitOption = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write a partition's predictions in the challenge's format: timestamp,value,segment_id.

    Example: affectune predict model --corpus data/c3_muse_stress --partition test --out predictions
    """
    print_status(f"Reading the model '{model}'")
    from pipeline.api.predicting import check_partition
    from pipeline.api.reading import corpus_to_predict
    from pipeline.evaluation.evaluate import raise_if_incompatible
    from pipeline.model.bundle import load_model

    part = check_partition(partition)
    fused_model = load_model(context.obj(model, tracking_uri))
    torch_device = find_device(device, fused_model.spec)
    if bands:
        _raise_if_without_bands(fused_model, model)
    if weights is not None:
        _raise_if_no_weights(fused_model, weights, out)

    print_status(f"Reading the corpus '{corpus}'")
    read = corpus_to_predict(
        fused_model,
        corpus,
        tolerance_ms=tolerance_ms,
        resampling=parse_resampling(resample),
        time_unit=parse_time_unit(time_unit),
    )
    _print_columns_set_aside(read, Console(stderr=True))
    raise_if_incompatible(fused_model, read)
    sessions = read.partition(part)
    if not sessions:
        raise InputError(f"Corpus {read.name!r} has no {part} sessions.")

    names = [_csv_name(target, session) for target in fused_model.targets for session in sessions]
    raise_if_others(out, names, "--out")
    if weights is not None:
        raise_if_others(weights, names, "--weights")

    predictions = fused_model.predict_sessions(sessions, device=torch_device)
    tables = {
        _csv_name(target, session): _predictions_csv(session, prediction, target, bands=bands)
        for target in fused_model.targets
        for session, prediction in zip(sessions, predictions, strict=True)
    }
    write_own_files(out, tables)
    if weights is not None:
        write_own_files(weights, _weights_tables(sessions, predictions))

    counts = f"{len(sessions)} sessions of {part}, {len(fused_model.targets)} targets"
    Console().print(Text(f"{counts}: {out}"), soft_wrap=True)
    if weights is not None:
        trusting = ", ".join(predictions[0].weights)
        line = f"Weights of the modalities for {trusting}: {weights}"
        Console().print(Text(line), soft_wrap=True)


def _print_next_steps(
    sessions: Corpus, corpus: Path, out: Path, tolerance_ms: float | None
) -> None:
    """Print what to do with a new model, as commands to paste."""
    from pipeline.shell_command import near_path, shell_command

    reading = ["--corpus", str(corpus)]
    if tolerance_ms is not None:
        reading += ["--tolerance-ms", f"{tolerance_ms:g}"]
    model, partition = near_path(out), "test" if sessions.partition("test") else "devel"
    predict = ["predict", model, *reading, "--partition", partition, "--out", "predictions"]

    console = Console()
    console.print("\nNext:")
    for words in (
        ["evaluate", model, *reading],
        predict,
        ["serve", "--model", model],
    ):
        console.print(f"  {shell_command(*words)}", soft_wrap=True, markup=False, highlight=False)


def _raise_if_without_bands(model: FusedModel, name: str) -> None:
    without = [target for target in model.targets if target not in model.bands]
    if without:
        raise InputError(
            f"--bands: the model '{name}' has no calibrated band of {without[0]}: it was trained "
            "before there were bands, in sample, or on too few people. Leave out --bands."
        )


def _predictions_csv(session: Session, prediction: Prediction, target: str, *, bands: bool) -> str:
    """Return a row for each label row of the target, with its timestamp as the file has it."""
    rows = session.rows_of(target)
    columns: dict[str, Iterable[object]] = {
        "timestamp": rows.timestamps,
        "value": prediction.values[target][rows.frames],
        "segment_id": rows.segment_ids,
    }
    if bands:
        # Behind the columns of the challenge, so that what reads those by position still does.
        band = prediction.bands[target]
        columns |= {"low": band.low[rows.frames], "high": band.high[rows.frames]}
    return csv_text(columns)


def _raise_if_no_weights(model: FusedModel, folder: Path, out: Path) -> None:
    """Refuse a model that has no weights, and a folder where they would replace predictions."""
    stages = [stage for target in model.targets for stage in model.fusions[target]]
    if not any(stage.has_gate for stage in stages):
        raise InputError(
            "--weights: no fusion of the model has a gate, so there are no weights. Leave it out, "
            "or train a fusion of the kind 'gate' or 'gated_recurrent'."
        )
    if folder.resolve() == out.resolve():
        raise InputError(
            f"--weights '{folder}' is --out, too: files of the same names. Choose another folder."
        )


def _csv_name(target: str, session: Session) -> str:
    return f"{target}/{session.session_id}.csv"


def _weights_tables(
    sessions: Sequence[Session], predictions: Sequence[Prediction]
) -> dict[str, str]:
    """Return <target>/<session>.csv -> its content for every target whose fusion has a gate."""
    return {
        _csv_name(target, session): _weights_csv(
            session.rows_of(target), prediction.weights[target]
        )
        for target in predictions[0].weights
        for session, prediction in zip(sessions, predictions, strict=True)
    }


def _weights_csv(rows: LabelRows, weights: Mapping[str, NDArray[np.float64]]) -> str:
    """Return a feature file's columns: timestamp, segment_id, and a weight per modality."""
    frames = {"timestamp": rows.timestamps, "segment_id": rows.segment_ids}
    return csv_text({**frames, **{name: series[rows.frames] for name, series in weights.items()}})


def _print_columns_set_aside(corpus: Corpus, console: Console) -> None:
    from pipeline.data.checks.column_findings import SET_ASIDE

    for finding in corpus.findings:
        if finding.kind == SET_ASIDE:
            note = escape(f"{finding.where}: {finding.message}")
            console.print(f"[yellow]Note:[/] {note}", soft_wrap=True)


def _print_evaluation(evaluation: Evaluation) -> None:
    from pipeline.evaluation.evaluate import score_table, session_score_table, session_score_title

    console = Console()
    session_rows = session_score_table(evaluation)
    for target, rows in score_table(evaluation).items():
        scores = evaluation.targets[target]
        table = _evaluation_table(f"{target} on {evaluation.data}", scores)
        for name, score, gap in rows:
            rho = scores.difficulty_spearman.get(name)
            correlation = "" if rho is None or np.isnan(rho) else f"{rho:+.2f}"
            table.add_row(*cells([name, score, gap, correlation]))
        console.print(table)
        heading = session_score_title(evaluation, target)
        console.print(session_table(heading, session_rows[target]))
        if scores.bands is not None:
            bands = scores.bands
            worst = bands.subject_coverage[bands.worst_subject]
            console.print(
                f"Bands for {bands.level:.0%} of the frames cover {bands.coverage:.1%} of them, "
                f"and {worst:.1%} of the frames of the worst person. Their mean width is "
                f"{bands.mean_width:.3f}, that of a constant band {bands.constant_width:.3f}: "
                f"difficulty and disagreement {bands.verdict}."
            )


def _evaluation_table(heading: str, scores: TargetEvaluation) -> Table:
    from pipeline.evaluation.evaluate import counts_text, interval_note, text_of

    caption = (
        f"The sessions' own CCCs: {text_of(scores.session_mean_ccc)} on average, "
        f"{scores.undefined_sessions} undefined. "
        "rho: rank correlation of difficulty with absolute error. "
        f"{interval_note(scores)}"
    )
    table = Table(
        title=title(f"{heading}: {counts_text(scores)}"),
        caption=caption.rstrip(),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
    )
    for name in ("prediction", "CCC [95% interval]", "fusion minus it", "rho"):
        table.add_column(name, no_wrap=True)
    return table


def session_table(heading: str, rows: Sequence[tuple[str, str, str]]) -> Table:
    """Return a target's rows of `session_score_table` as a table, 80 columns wide at most."""
    has_all = all("[" in score or score == "undefined" for _, *scores in rows for score in scores)
    table = Table(
        title=title(heading),
        caption=None if has_all else "Without an interval: too few people for one.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
    )
    for name in ("prediction", "CCC between sessions", "CCC within sessions"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    return table
