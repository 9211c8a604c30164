"""Pictures, pages about runs, and facts about files and folders."""
