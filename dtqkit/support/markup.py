"""What all HTML that goes into a notebook has in common."""

from typing import Final

#: Classes of an element whose text is no mathematics. A notebook sets what stands between two `$` as a formula, after
#: it has decoded entities, so `&#36;` does not help. The first is what MathJax 2 looks for, the second MathJax 3 and 4.
NOT_MATH: Final = "tex2jax_ignore mathjax_ignore"
