"""Plans of compression under a latency budget: candidates, exact solvers, their rivals, and calibration."""
