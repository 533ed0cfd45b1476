"""Nodes for ComfyUI: see README.md beside this file."""

from .nodes import RestoreFaces

NODE_CLASS_MAPPINGS = {"GFPGANRestoreFaces": RestoreFaces}
NODE_DISPLAY_NAME_MAPPINGS = {"GFPGANRestoreFaces": "Restore faces (GFPGAN)"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
