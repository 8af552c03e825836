"""The build's own hook: with HELIOSPROXY_COMPILE=1 in the environment a wheel is compiled, else it is plain Python."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WANTED = "HELIOSPROXY_COMPILE"


class CompileHook(BuildHookInterface[Any]):
    """See the head of this file."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        if os.environ.get(WANTED) != "1":
            return []
        # The compiler reads types, also of what is imported.
        return ["mypy>=1.18", "setuptools", *self.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get(WANTED) != "1" or self.target_name != "wheel":
            return
        root = Path(self.root)
        spec = importlib.util.spec_from_file_location("compile_modules", root / "tools" / "compile.py")
        if spec is None or spec.loader is None:
            raise RuntimeError("tools/compile.py is missing")
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for file in tool.build(root):
            name = str(file.relative_to(root))
            build_data["force_include"][str(file)] = name
