"""The local web page: show, adjust, show again. `app` is the page, `jobs` and `drawing` do its work."""
