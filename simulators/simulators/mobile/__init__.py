"""What the simulated providers of mobile money share: phones, books, statements, callbacks, faults, the face."""
