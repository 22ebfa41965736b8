"""The running of relayweb's parts on one machine: launchers, the supervisor, and the state directory they share."""
