"""The demo: four ways to carry out a sign-up, side by side, under the same faults. It begins in `running`."""
