"""The sagas of other services that merchant reacts to. Those that it starts have no step here."""
