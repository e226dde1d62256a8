"""The lab keeps its promises."""
