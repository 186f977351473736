"""``pictograph demo``: the whole path, on real servers and real photographs, in one command."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.main import serve
from pictograph import samples
from pictograph.cli.connect import ready, seeing
from pictograph.cli.console import STYLE, Json, emit, note, out, say
from pictograph.cli.profile import profile_table, read_profile
from pictograph.cli.tag import run_job, submit
from pictograph.cli.up import until_interrupted
from pictograph.places import own, uploading
from pictograph.stack import Service
from pictograph.supervisor import Supervisor
from pipeline import treemap
from pipeline.errors import ConfigurationError
from pipeline.ledger.requests import JobRequest
from pipeline.profile import CELLS, Profile
from pipeline.records import JobState
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket
from pipeline.store.roles import Role
from pipeline.store.session import Database
from workers.ledger import open_database

group = typer.Typer(**STYLE)

PREFIX = "demo/"


@group.command(epilog="Example: `pictograph demo --photos ~/Pictures --once`")
def demo(
    *,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of your own; its first level of folders names the users.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do not serve the pages afterwards.")] = False,
    out_dir: Annotated[Path, typer.Option("--out", help="Where the treemaps go.")] = Path("out"),
    as_json: Json = False,
) -> None:
    """See it work: photographs of three users become tags, profiles and treemaps.

    Starts real servers on this machine, puts the photographs into S3, tags them, and serves the pages until Ctrl-C.
    """
    pictures = samples.of_folder(photos) if photos else samples.bundled()
    users = sorted({picture.user for picture in pictures})
    with (
        ready(quiet=as_json) as settings,
        open_database(settings, "pictograph demo", Role.INGEST) as database,
        open_database(settings, "pictograph demo", Role.API) as results,
        Supervisor(settings) as supervisor,
    ):
        if not as_json:
            note(f"Uploading {len(pictures)} photographs of {len(users)} users ...")
        access = S3Access.of(uploading(settings) if own(Service.S3) else settings)
        create_bucket(access, settings.s3_bucket)
        samples.upload(access, settings.s3_bucket, PREFIX, pictures, replace=own(Service.S3))
        source = f"s3://{settings.s3_bucket}/{PREFIX}"
        request = JobRequest(kind="s3", source=source, user_rule="{user}/{photo}", allow_mass_delete=own(Service.S3))
        job = run_job(database, submit(settings, database, request), supervisor, as_json=as_json)
        if job.state is JobState.FAILED:
            raise typer.Exit(1)
        for user in users:
            _present(results, user, out_dir, as_json=as_json)
        if not once:
            _serve(settings, as_json=as_json)


def _present(database: Database, user: str, out_dir: Path, *, as_json: bool) -> None:
    with seeing(database) as connection:
        found = read_profile(connection, user, CELLS)
    path = _write(out_dir, user, found)
    if as_json:
        emit({"user": user, "svg": str(path), **asdict(found)})
        return
    say("")
    say(f"{user}  ({path})")
    out.print(profile_table(found))


def _write(out_dir: Path, user: str, found: Profile) -> Path:
    path = out_dir / f"{samples.file_name(user)}.svg"
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        path.write_text(treemap.svg(found, f"What {user} photographs"), encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(
            f"{path} cannot be written ({exc.strerror}); choose another folder with --out."
        ) from exc
    return path


def _serve(settings: Settings, *, as_json: bool) -> None:
    """The pages, until Ctrl-C; on another port where the usual one is taken."""

    def started(address: str) -> None:
        if as_json:
            emit({"api": address})
            return
        say("")
        say(f"The pages are at {address} - Ctrl-C stops everything.")

    with until_interrupted():
        try:
            serve(settings, started)
        except ConfigurationError as exc:
            note(f"{exc} Taking any free port.")
            serve(settings.model_copy(update={"api_port": 0}), started)
