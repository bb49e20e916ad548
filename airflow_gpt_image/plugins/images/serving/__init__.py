"""Send pictures and files: found under the roots, checked, made smaller, and with strict headers."""
