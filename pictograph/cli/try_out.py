"""``pictograph demo``: the whole path, on real servers and real photographs, in one command."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.main import serve
from pictograph import samples
from pictograph.cli.annotate import run_job, show, submit
from pictograph.cli.console import Json, emit, note, out, ready, say
from pictograph.cli.inspect import profile_table, read_profile
from pictograph.cli.serve import until_interrupted
from pictograph.follow import report
from pictograph.supervisor import Supervisor
from pipeline import treemap
from pipeline.ledger.jobs import JobRequest
from pipeline.profile import Profile
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access, create_bucket
from pipeline.store.session import Database
from workers.ledger import open_database

group = typer.Typer()

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
    """Put photographs of some users into S3, tag them, and show what each of them photographs."""
    pictures = samples.of_folder(photos) if photos else samples.bundled()
    with ready(quiet=as_json) as settings, open_database(settings, "pictograph demo") as database:
        if not as_json:
            note(f"Uploading {len(pictures)} photographs of {len({p.user for p in pictures})} users ...")
        access = S3Access.of(settings)
        create_bucket(access, settings.s3_bucket)
        samples.upload(access, settings.s3_bucket, PREFIX, pictures)
        source = f"s3://{settings.s3_bucket}/{PREFIX}"
        request = JobRequest(kind="s3", source=source, user_rule="{user}/{photo}", allow_mass_delete=True)
        job_id = submit(settings, database, request)
        with Supervisor(settings) as supervisor:
            job = run_job(database, job_id, supervisor, show=not as_json)
            emit(asdict(report(job))) if as_json else show(report(job))
            for user in sorted({picture.user for picture in pictures}):
                _present(database, user, out_dir, as_json=as_json)
            if not once:
                _serve(settings)


def _present(database: Database, user: str, out_dir: Path, *, as_json: bool) -> None:
    with database.transaction() as connection:
        found = read_profile(connection, user, 4)
    path = _write(out_dir, user, found)
    if as_json:
        emit({"user": user, "svg": str(path), **asdict(found)})
        return
    say(f"\n{user}  ({path})")
    out.print(profile_table(found))


def _write(out_dir: Path, user: str, found: Profile) -> Path:
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / f"{samples.file_name(user)}.svg"
    path.write_text(treemap.svg(found, f"What {user} photographs"), encoding="utf-8")
    return path


def _serve(settings: Settings) -> None:
    with until_interrupted():
        serve(settings, lambda address: say(f"\nThe pages are at {address} - Ctrl-C stops everything."))
