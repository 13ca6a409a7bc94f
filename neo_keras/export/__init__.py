"""From a run directory to files that other runtimes run."""
