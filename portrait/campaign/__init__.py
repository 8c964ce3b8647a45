"""Many photos in one look: plan, ledger, engines, export. Nothing is lost, and nothing is done twice."""
