"""What a program uses: queues, handles, decorators, waits."""
