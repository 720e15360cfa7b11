"""The one exception that means: the user can repair this."""


class UserError(Exception):
    """A mistake in the user's input or surroundings.

    The message names the file or key, the value found there and the remedy. Programs print it without a
    traceback; everything else that is raised is a defect of this project.
    """
