"""The executor: one process per device. Pulls builds, has them judged, publishes the verdict."""
