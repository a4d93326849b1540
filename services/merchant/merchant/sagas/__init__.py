"""The sagas that merchant starts have no step here."""
