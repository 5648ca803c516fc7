"""A command that also has subcommands, such as `fairveil audit FILE` and `fairveil audit power`."""

from typing import Any

from typer.core import TyperGroup


class CommandWithSubcommands(TyperGroup):
    """A group that is a command itself, with arguments and options of its own.

    A first word that is the name of a subcommand starts it; anything else is for the command itself. A file of such a
    name is written with its folder: `./power`.
    """

    allow_extra_args = False
    allow_interspersed_args = True  # the command's options may stand behind its arguments

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave words for a subcommand to it."""
        if args and args[0] in self.commands:
            ctx.args = args
            return args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, or the subcommand that was named, without the command."""
        if not ctx.args:
            return super().invoke(ctx)
        name, command, words = self.resolve_command(ctx, ctx.args)
        assert command is not None  # parse_args looked
        path = f"{ctx.info_name} {name}"  # beside the command, whose arguments would else be in the usage
        with command.make_context(path, words, parent=ctx.parent) as context:
            return command.invoke(context)
