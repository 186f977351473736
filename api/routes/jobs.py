"""Jobs, to be watched."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api.answers import cacheable
from api.errors import not_found
from api.parameters import only
from api.schemas import JobOut, JobsOut
from api.services import Wired
from pipeline.errors import ConfigurationError
from pipeline.ledger import jobs

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LARGEST_ID = 2**63 - 1


@router.get("", response_model=JobsOut, dependencies=[only("limit")])
def list_jobs(request: Request, services: Wired, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> Response:
    """The newest jobs, newest first."""
    with services.transaction() as connection:
        found = jobs.newest(connection, limit)
    answer = JobsOut(jobs=[JobOut.of(job) for job in found])
    return cacheable(request, answer.model_dump_json(), "application/json")


@router.get("/{job_id}", response_model=JobOut, dependencies=[only()])
def get_job(request: Request, services: Wired, job_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> Response:
    """One job as it stands."""
    with services.transaction() as connection:
        try:
            job = jobs.find(connection, job_id)
        except ConfigurationError as missing:
            raise not_found(f"There is no job {job_id}.") from missing
    return cacheable(request, JobOut.of(job).model_dump_json(), "application/json")
