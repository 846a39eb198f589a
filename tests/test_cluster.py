"""A Dask scheduler as the executor: the same bytes, and no open door."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mihc.cluster import connect
from mihc.errors import ResourceError, UsageError
from mihc.pipeline import run
from mihc.store import digest_results
from mihc.study import read_study
from mihc.synthetic import draw_study


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return draw_study(tmp_path_factory.mktemp("drawn") / "study", patients=2, seed=9, size_px=(512, 512))


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        processes=True,
    ) as cluster:
        yield cluster


@pytest.mark.filterwarnings("ignore::UserWarning:distributed", "ignore::ResourceWarning")
def test_a_dask_cluster_gives_the_same_bytes_as_threads(drawn, cluster, tmp_path):
    here, there = (Path(shutil.copytree(drawn, tmp_path / name)) for name in ("here", "there"))
    run(read_study(here))
    with connect(cluster.scheduler_address) as executor:
        results = run(read_study(there), executor=executor)
    assert results.failed == {}
    assert digest_results(there / "results") == digest_results(here / "results")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://10.1.2.3:8786", "not encrypted"),
        ("tls://10.1.2.3:8786", "needs certificates"),
        ("http://10.1.2.3:8786", "is no address"),
        ("nonsense", "is no address"),
    ],
)
def test_an_unsafe_or_wrong_address_is_refused_before_connecting(address, said):
    with pytest.raises(UsageError, match=said), connect(address):
        raise AssertionError("connected")


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_a_resource_error():
    with pytest.raises(ResourceError, match="does not answer"), connect("tcp://127.0.0.1:9"):
        raise AssertionError("connected")
