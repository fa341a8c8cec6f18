"""Third parties' code: it is installed by `tests/integration/plugins`, never collected as ours."""

collect_ignore = ["acme_yard", "nasty_yard"]
