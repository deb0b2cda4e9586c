"""Shared by all HTML that goes into a notebook."""

from typing import Final

#: Classes of an element whose text is not mathematics. A notebook renders text between two `$` as a formula, after
#: it has decoded entities, so `&#36;` does not help. The first is what MathJax 2 looks for, the second MathJax 3 and 4.
NOT_MATH: Final = "tex2jax_ignore mathjax_ignore"
