"""The layout of the contract: imports point up its list, public names are there, what must stay light stays light."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mihc

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mihc"
MODULES = {
    ".".join(("mihc", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# The order of docs/design.md: a unit may import itself and the units above it. A module or package of helpers that
# outgrew its file counts as one unit with it.
UNITS = {
    "version": ["mihc"],
    "errors": ["errors"],
    "windows": ["windows"],
    "panel": ["panel"],
    "slide": ["slide", "slides"],
    "store": ["store", "stores"],
    "nuclei": [
        "nuclei",
        "nuclei_reference",
        "nuclei_stain",
        "nuclei_ids",
        "nuclei_grid",
        "nuclei_cuts",
        "nuclei_masks",
        "nuclei_merges",
        "nuclei_rest",
        "nuclei_tree",
        "nuclei_kernels",
        "kernels",
    ],
    "segmenters": ["segmenters"],
    "cells": ["cells", "cells_kernels", "measures"],
    "qc": ["qc", "quality"],
    "positives": [
        "positives",
        "thresholds",
        "gating",
        "phenotypes",
        "pairs",
        "strengths",
        "batches",
        "bounds",
        "corrections",
    ],
    "regions": ["regions", "areas", "annotations"],
    "spatial": ["spatial"],
    "reviews": ["reviews"],
    "study": ["study", "studies"],
    "results": ["results"],
    "statistics": ["statistics", "estimates"],
    "associate": ["associate", "associations"],
    "figures": ["figures", "plots"],
    "report": ["report", "reports"],
    "pipeline": ["pipeline", "memory", "stages", "steps", "cluster", "decoders"],
    "export": ["export", "exports"],
    "review": ["review", "reviewing"],
    "synthetic": ["synthetic", "drawing"],
    "cli": ["cli", "console", "__main__"],
}
ORDER = list(UNITS)
UNIT_OF = {name: unit for unit, names in UNITS.items() for name in names}


def unit_of(module: str) -> str:
    return UNIT_OF[module.split(".")[1] if "." in module else module]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(module: str) -> set[str]:
    """Every module of mihc that a module imports, within functions and for type checkers too."""
    found = set()
    for node in ast.walk(tree_of(MODULES[module])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "mihc"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: imports are absolute"
            if str(node.module).split(".")[0] == "mihc":
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name if name in MODULES else node.module for name in named}
    return found


# ---- the direction of imports


def test_every_module_has_its_place_in_the_list():
    assert sorted(module for module in MODULES if module.split(".")[-1 if module == "mihc" else 1] not in UNIT_OF) == []


def test_the_list_is_the_contracts():
    contract = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = re.findall(r"mihc/(\w+)\.py ", contract.split("## Layout")[1].split("##")[0])
    assert [unit for unit in ORDER if unit in named] == named


def test_imports_only_point_up_the_list():
    downward = [
        f"{module} ({unit_of(module)}) imports {other} ({unit_of(other)})"
        for module in MODULES
        for other in sorted(imported(module))
        if ORDER.index(unit_of(other)) > ORDER.index(unit_of(module))
    ]
    assert downward == []


def test_the_direction_is_really_looked_at():
    """The reader of imports sees those of the pipeline, and those within functions."""
    assert {"mihc.store", "mihc.study", "mihc.steps.ingest", "mihc"} <= imported("mihc.pipeline")
    assert "mihc.slides.czi" in imported("mihc.slide")
    assert "mihc.studies.settings" in imported("mihc.associate")


# ---- public names

CALLS = {  # the contract's signatures: positional names, then keyword names
    "open_slide": ("path", "scene pixel_size_um"),
    "segment_nuclei": ("image", "pixel_size_um nucleus_diameter_um method reference sensitivity"),
    "open_segmenter": ("method", "weights nucleus_diameter_um sensitivity"),
    "slide_reference": ("image", "pixel_size_um"),
    "grow_cells": ("nuclei", "pixel_size_um distance_um"),
    "measure_cells": ("image nuclei cells", "markers pixel_size_um features"),
    "choose_threshold": ("values", "method negatives"),
    "call_positives": ("cells thresholds", "compartments phenotypes"),
    "read_regions": ("path", "pixel_size_um"),
    "assign_regions": ("x_um y_um regions", "precedence"),
    "count_populations": ("cells", "populations area_mm2"),
    "study_table": ("regions slides clinical", ""),
    "read_study": ("folder", ""),
    "run": ("study", "executor"),
    "statistics.rank_sum": ("x y", "method"),
    "statistics.fisher_exact": ("table", ""),
    "statistics.exact_proportion": ("k n", ""),
    "statistics.kaplan_meier": ("time event", ""),
    "statistics.log_rank": ("time event group", ""),
    "statistics.cox": ("time event covariates", ""),
    "statistics.max_selected": ("time event x", ""),
    "statistics.slope_change_split": ("time event", ""),
    "statistics.landmark_split": ("time event at", ""),
    "statistics.adjust": ("p method", ""),
}
DEFAULTS = {
    ("open_slide", "scene"): None,
    ("open_slide", "pixel_size_um"): None,
    ("segment_nuclei", "nucleus_diameter_um"): 8.0,
    ("segment_nuclei", "method"): "auto",
    ("segment_nuclei", "reference"): None,
    ("grow_cells", "distance_um"): 4.0,
    ("measure_cells", "features"): ("mean",),
    ("choose_threshold", "method"): "auto",
    ("call_positives", "phenotypes"): None,
    ("run", "executor"): None,
    ("statistics.rank_sum", "method"): "auto",
    ("statistics.adjust", "method"): "BH",
}


def public(name: str) -> object:
    found = mihc
    for part in name.split("."):
        found = getattr(found, part)
    return found


def test_every_public_name_resolves_and_says_what_it_is():
    for name in mihc.__all__:
        assert (getattr(mihc, name).__doc__ or "").strip(), name
    assert sorted(mihc.__all__) == mihc.__all__
    assert {name.split(".")[0] for name in CALLS} <= set(mihc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        _ = mihc.segment_everything


@pytest.mark.parametrize("name", CALLS)
def test_public_functions_have_the_contracts_keywords(name):
    signature = inspect.signature(public(name))
    positional, keywords = (names.split() for names in CALLS[name])
    parameters = signature.parameters
    plain = [key for key, one in parameters.items() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert plain[: len(positional)] == positional
    assert set(keywords) <= set(parameters)
    assert not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    assert all(one.annotation is not inspect.Parameter.empty for one in parameters.values())


@pytest.mark.parametrize(("name", "keyword"), DEFAULTS)
def test_public_functions_have_the_contracts_defaults(name, keyword):
    assert inspect.signature(public(name)).parameters[keyword].default == DEFAULTS[name, keyword]


def test_records_have_the_contracts_words():
    words = {"statistic", "p", "estimate", "ci_low", "ci_high", "n", "n_events", "method", "note"}
    assert words <= set(mihc.statistics.Estimate.__dataclass_fields__)
    curve = mihc.statistics.kaplan_meier([1.0, 2.0], [1, 0])
    assert {"time", "survival", "ci_low", "ci_high", "at_risk"} <= set(type(curve).__dataclass_fields__)
    assert curve.at(1.5).estimate == 0.5 and isinstance(curve.median(), mihc.statistics.Estimate)
    assert {"value", "low", "high", "method", "verdict"} <= set(mihc.Threshold.__dataclass_fields__)
    assert {"name", "tissue_class", "polygon_um"} == set(mihc.Region.__dataclass_fields__)


# ---- what is light

HEAVY = {"matplotlib", "numba", "zarr", "pylibCZIrw", "scipy", "dask", "distributed", "lifelines"}
HEAVY |= {"qtpy", "PySide6", "PyQt5", "PyQt6", "napari"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after running some code."""
    told = "; import sys; print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + told], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split("LOADED")[1].split())


def test_importing_mihc_loads_nothing_heavy():
    loaded = loaded_by("import mihc")
    assert "mihc" in loaded
    assert loaded & {*HEAVY, "pandas", "numpy"} == set()


def test_the_help_loads_nothing_heavy():
    code = "import sys, contextlib; sys.argv = ['mihc', '--help']\nfrom mihc.cli import main\n"
    code += "with contextlib.suppress(SystemExit): main()\nNone"
    loaded = loaded_by(code)
    assert "typer" in loaded
    assert loaded & HEAVY == set()


# ---- what science does not touch

SCIENCE = ("windows", "nuclei", "cells", "positives", "spatial", "statistics")
FILES = {"pathlib", "os", "io", "shutil", "tempfile", "subprocess", "socket", "logging", "urllib"}


def science_modules() -> list[str]:
    named = [module for module in MODULES if module != "mihc" and unit_of(module) in SCIENCE]
    return [*named, *(module for module in MODULES if module.startswith("mihc.areas"))]  # regions' arithmetic


def calls_of(path: Path) -> set[str]:
    """The last name of everything that a module calls: "open" of both open(...) and path.open(...)."""
    called = [node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    plain = {one.id for one in called if isinstance(one, ast.Name)}
    return plain | {one.attr for one in called if isinstance(one, ast.Attribute)}


def all_imports(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere."""
    nodes = list(ast.walk(tree_of(path)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in plain | {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}}


def test_science_touches_no_path_and_prints_nothing():
    assert len(science_modules()) > 25
    for module in science_modules():
        path = MODULES[module]
        writes = {"print", "open", "read_text", "write_text", "read_bytes", "write_bytes", "to_csv", "read_csv"}
        assert calls_of(path) & writes == set(), module
        assert all_imports(path) & FILES == set(), module


def test_only_the_command_line_prints():
    printers = {module for module, path in MODULES.items() if "print" in calls_of(path)}
    assert printers <= {"mihc.cli", "mihc.console"}


# ---- what is nowhere


def test_nothing_runs_text_as_code_or_unpickles():
    for module, path in MODULES.items():
        assert all_imports(path) & {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"} == set()
        called = {node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)}
        names = {one.id for one in called if isinstance(one, ast.Name)}
        assert names & {"eval", "exec", "compile", "__import__"} == set(), module
        attributes = {one.attr for one in called if isinstance(one, ast.Attribute)}
        assert attributes & {"read_pickle", "to_pickle", "unsafe_load", "literal_eval"} == set(), module
        assert "yaml" not in all_imports(path), module
        assert "allow_pickle=True" not in path.read_text(encoding="utf-8"), module


def test_nothing_reaches_for_the_network():
    for module, path in MODULES.items():
        found = all_imports(path) & {"requests", "httpx", "aiohttp", "socket", "http", "ftplib", "fsspec", "s3fs"}
        assert found == set(), module
        assert calls_of(path) & {"urlopen", "urlretrieve"} == set(), module


def test_environment_variables_are_no_interface():
    for module, path in MODULES.items():
        attributes = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
        assert attributes & {"environ", "getenv"} == set(), module


SUFFIXES = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".yml", ".cfg", ".j2", ".css", ".json", ".sh", ""}
LEFT_OUT = re.compile(r"^(\.(git|venv|pytest_cache|ruff_cache|hypothesis)|demo|mihc-demo|shared|build|dist)")
HOSTS = ("py" + "pi.org", "python" + "hosted.org", "anaconda" + ".org", "--index" + "-url", "extra" + "-index")
MACHINE = re.compile(r"(?<![\w.*~<>-])/(?:work|home|root|Users|mnt|opt|scratch)/\w|[A-Z]:\\\\?Users")


def texts_of_the_project() -> list[Path]:
    entries = [path for path in ROOT.iterdir() if not LEFT_OUT.match(path.name)]
    files = [file for path in entries for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    hidden = re.compile(r"__pycache__|egg-info|/\.")
    return sorted(file for file in files if file.suffix in SUFFIXES and not hidden.search(str(file.relative_to(ROOT))))


def test_no_file_names_a_registry_or_a_machines_path():
    files = texts_of_the_project()
    assert {"README.md", "Makefile", "pyproject.toml"} <= {file.name for file in files} and len(files) > 150
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert [host for host in HOSTS if host in text] == [], file
        assert MACHINE.findall(text) == [], file


def test_files_stay_short_and_none_is_for_odds_and_ends():
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: lines for module, lines in lengths.items() if lines > 450} == {}
    assert [m for m in MODULES if m.split(".")[-1] in ("utils", "util", "helpers", "core", "common", "misc")] == []


def test_every_module_says_what_it_is():
    for module in MODULES:
        assert (importlib.util.find_spec(module) is not None) and ast.get_docstring(tree_of(MODULES[module])), module
