"""The local web page: show, adjust, show again. `app` is the page, `work` what it sets in motion."""
