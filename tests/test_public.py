"""What is public, what an import costs, who imports whom, and who writes files."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import sibling

ROOT = Path(sibling.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__main__.py")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["sibling", *(part for part in parts if part != "__init__")])


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_all_lists_what_is_public(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    listed = list(module.__all__)
    defined = {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    assert len(set(listed)) == len(listed)
    assert defined <= set(listed)
    assert all(hasattr(module, name) for name in listed)
    assert not any(name.startswith("_") for name in listed)


def test_all_of_the_package_is_what_it_offers() -> None:
    assert sibling.__all__ == sorted(sibling.__all__)
    assert set(sibling.__all__) == set(sibling._PLACES)
    assert set(dir(sibling)) == {*sibling.__all__, "__version__"}
    for name in sibling.__all__:
        assert getattr(sibling, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'raed'"):
        _ = sibling.raed


def test_importing_sibling_imports_nothing_slow() -> None:
    slow = (
        "{'torch', 'numpy', 'PIL', 'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'joblib', 'rich', 'cyclopts'}"
    )
    assert python(f"import sys, sibling; print({slow} & sys.modules.keys() or 'none')") == "none"
    # The control: a verb does bring torch in, so the check above can see it.
    assert python("import sys, sibling; sibling.fit; print('torch' in sys.modules)") == "True"


def test_help_of_the_command_line_imports_no_torch() -> None:
    code = "import sys; from sibling.cli import main; main(['--help']); print('torch' in sys.modules)"
    assert python(code).endswith("False")


@pytest.mark.parametrize(
    "order", ["import sibling.read, sibling.write", "from sibling import write, read", "pass"]
)
def test_a_verb_is_a_function_after_any_import_order(order: str) -> None:
    code = f"""
import sibling
{order}
import sibling.fit, sibling.latent, sibling.project, sibling.reject, sibling.evaluate as module
from sibling import evaluate
from sibling.curate import curate
names = ["curate", "enlarge", "evaluate", "example", "fit", "read", "report", "sample", "verify", "write",
         "interpolate", "project", "reject", "truncate", "vary"]
print(all(type(getattr(sibling, name)).__name__ == "function" for name in names), callable(evaluate))
"""
    assert python(code) == "True True"


def test_layers_keep_their_contracts() -> None:
    """No stage imports a reader; format, modality, condition, model and metric are orthogonal."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], capture_output=True, text=True, cwd=ROOT.parents[1], timeout=60
    )
    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout


# ---- who writes -----------------------------------------------------------------------------------

WRITERS = {"write_bytes", "write_text", "touch", "mkdir", "symlink_to", "tofile", "savefig", "save_file"}
IN_MEMORY = {"io.BytesIO", "io.StringIO", "arrow.BufferOutputStream"}  # what a picture may be saved to
FORBIDDEN_IMPORTS = {"pickle", "shelve", "dill", "cloudpickle", "marshal"}
ALLOWED = {"rmtree": {"checkpoint.py", "files.py", "read.py"}}  # removing, not writing


def writes(path: Path) -> list[str]:
    """The places in a module that could write a file or unpickle one."""
    found = []
    tree = ast.parse(path.read_text())
    buffers = {
        ast.unparse(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) in IN_MEMORY
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [f"import {name}" for name in modules if name.split(".")[0] in FORBIDDEN_IMPORTS]
        elif isinstance(node, ast.Call):
            reason = _reason(node, path.name, buffers)
            found += [f"line {node.lineno}: {reason}"] if reason else []
    return found


def _reason(call: ast.Call, file: str, buffers: set[str]) -> str | None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    owner_name = getattr(owner, "id", "")
    first = call.args[0] if call.args else None
    words = [a.value for a in [*call.args, *(k.value for k in call.keywords)] if isinstance(a, ast.Constant)]
    modes = [word for word in words if isinstance(word, str) and len(word) <= 3 and set(word) & set("wax+")]
    in_memory = first is not None and ast.unparse(first) in buffers
    if name == "open" and not in_memory and any(set(mode) <= set("wabxrt+") for mode in modes):
        return "open to write"
    if name in WRITERS and owner is not None and owner_name != "files":
        return None if in_memory else name
    if name in ("save", "savez", "savez_compressed", "dump"):
        ours = owner is not None and ast.unparse(owner) in ("safetensors.torch", "checkpoint")
        return None if in_memory or ours else name
    if name == "load" and any(
        k.arg == "allow_pickle" and getattr(k.value, "value", 1) for k in call.keywords
    ):
        return "unpickling"
    if name == "load" and owner_name == "torch":
        tensors = any(k.arg == "weights_only" and getattr(k.value, "value", 0) is True for k in call.keywords)
        return (
            None if tensors and file == "efficientnet.py" else "torch.load"
        )  # there of a file with a known hash
    if name in ALLOWED and file not in ALLOWED[name]:
        return name
    return None


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_files_py_writes(path: Path) -> None:
    if path.name != "files.py":
        assert writes(path) == []


@pytest.mark.parametrize(
    "line",
    [
        "open('a', 'w')",
        "path.open('ab')",
        "open(path, mode='w+')",
        "path.write_text('x')",
        "path.write_bytes(b'x')",
        "torch.save(x, path)",
        "json.dump(x, file)",
        "np.save('x', a)",
        "picture.save('a.png')",
        "import pickle",
        "from pickle import load",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
    ],
)
def test_the_search_for_writers_finds_them(line: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(line)
    assert writes(tmp_path / "module.py")
    (tmp_path / "module.py").write_text(
        "buffer = io.BytesIO(); path.open('rb'); files.write_bytes(p, b''); picture.save(buffer)"
    )
    assert not writes(tmp_path / "module.py")


def test_the_search_finds_the_writers_in_files_py() -> None:
    assert len(writes(ROOT / "files.py")) >= 4
